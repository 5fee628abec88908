"""Finished speech on the real service: same bytes, no stage at work, a removal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.serve.service_client import ServiceClient, body, clip_of_its_own, cloned
from tests.waiting import eventually

pytestmark = pytest.mark.serve


def source_of(reply: httpx.Response) -> str:
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.headers["x-cache"].split(",")[0]


def speech_report(client: ServiceClient) -> dict[str, Any]:
    """What one of the routers counts."""
    return client.http.get("/v1/cache").json()["speech"]


def test_what_was_spoken_once_is_not_made_again(many: ServiceClient) -> None:
    made = many.speak(seed=41)
    assert not source_of(made).startswith("speech")
    before = many.gauge("llm", "tokens_generated_total")
    replies = [many.speak(seed=41) for _ in range(8)]
    assert {source_of(reply) for reply in replies} <= {"speech-l1", "speech-l2"}
    assert {reply.content for reply in replies} == {made.content}
    assert many.gauge("llm", "tokens_generated_total") == before, "nothing was drawn"
    assert many.speak(seed=41, cache="off").content == made.content
    assert many.gauge("llm", "tokens_generated_total") > before
    other_form = many.speak(seed=41, speed=1.25, response_format="wav")
    assert source_of(other_form).startswith("speech")


def test_equal_requests_at_once_are_one(many: ServiceClient) -> None:
    before = many.gauge("llm", "tokens_generated_total")
    one = body(seed=77, input="One two three four five six seven eight nine ten.")
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(many.http.post, "/v1/audio/speech", json=one) for _ in range(8)]
        replies = [post.result() for post in posts]
    assert len({reply.content for reply in replies}) == 1
    drawn = many.gauge("llm", "tokens_generated_total") - before
    alone = many.http.post("/v1/audio/speech", json={**one, "cache": "off"})
    assert alone.content == replies[0].content
    assert many.gauge("llm", "tokens_generated_total") - before == 2 * drawn


def test_a_removal_takes_the_speech_along(many: ServiceClient) -> None:
    clip, transcript = clip_of_its_own()
    asked = cloned(clip, transcript, seed=43)
    made = many.http.post("/v1/audio/speech", json=asked)
    assert source_of(many.http.post("/v1/audio/speech", json=asked)).startswith("speech")
    digest = many.http.post("/v1/cache/warm", content=clip).json()["clip"]
    assert many.http.delete(f"/v1/cache/{digest}").json()["deleted"]

    def is_made_again() -> bool:
        return source_of(many.http.post("/v1/audio/speech", json=asked)) == "miss"

    assert eventually(is_made_again)
    assert many.http.post("/v1/audio/speech", json=asked).content == made.content
