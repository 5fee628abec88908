"""Finished speech on the real service: same bytes, no stage at work, a removal."""

from __future__ import annotations

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from s3fs import S3FileSystem

from tests.cache_helpers import S3Server
from tests.serve.fleet.conftest import REPORT_S
from tests.serve.service_client import ServiceClient, body, clip_of_its_own, cloned
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.serve
WORK = re.compile(r'^ray_timbre_stage_queue_s_count\{.*stage="(llm|vocoder)".*\} ([0-9.]+)', re.M)
REPORTED_S = 4 * REPORT_S


def source_of(reply: httpx.Response) -> str:
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.headers["x-cache"].split(",")[0]


def work_of_stages(client: ServiceClient) -> Counter[str]:
    """Answers that the stages' replicas began, once those before this call are reported."""
    time.sleep(REPORTED_S)
    work = Counter[str]()
    for stage, count in WORK.findall(client.prometheus()):
        work[stage] += int(float(count))
    return work


def speech_files(server: S3Server) -> set[str]:
    """Records of speech in the bucket."""
    files = S3FileSystem(**server.storage_options, use_listings_cache=False)
    return set(files.find(f"{server.bucket}/service/speech"))


def test_what_was_spoken_once_is_not_made_again(many: ServiceClient) -> None:
    made = many.speak(seed=41)
    assert not source_of(made).startswith("speech")
    before = work_of_stages(many)
    assert set(before) == {"llm", "vocoder"}
    replies = [many.speak(seed=41) for _ in range(8)]
    assert {source_of(reply) for reply in replies} <= {"speech-l1", "speech-l2"}
    assert {reply.content for reply in replies} == {made.content}
    assert many.speak(seed=41, cache="off").content == made.content
    after = work_of_stages(many)
    assert after == before + Counter(("llm", "vocoder")), "only the one made alone"
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


def test_a_removal_takes_the_speech_along(many: ServiceClient, s3_server: S3Server) -> None:
    clip, transcript = clip_of_its_own()
    asked = cloned(clip, transcript, seed=43)
    already = speech_files(s3_server)
    made = many.http.post("/v1/audio/speech", json=asked)
    wait_until(lambda: bool(speech_files(s3_server) - already))
    its_own = speech_files(s3_server) - already
    assert source_of(many.http.post("/v1/audio/speech", json=asked)).startswith("speech")
    digest = many.http.post("/v1/cache/warm", content=clip).json()["clip"]
    assert many.http.delete(f"/v1/cache/{digest}").json()["deleted"]
    assert not its_own & speech_files(s3_server)

    def is_made_again() -> bool:
        return source_of(many.http.post("/v1/audio/speech", json=asked)) == "miss"

    assert eventually(is_made_again)
    assert many.http.post("/v1/audio/speech", json=asked).content == made.content
