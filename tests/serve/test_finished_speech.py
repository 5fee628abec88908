"""Finished speech on the real service: same bytes, no stage at work, a restart, a removal."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serve.conftest import running, write_config
from tests.serve.service_client import ServiceClient, body, listed_clip
from tests.waiting import wait_until

pytestmark = pytest.mark.serve
WORK = re.compile(r'^ray_timbre_stage_queue_s_count\{.*stage="(llm|vocoder)".*\} ([0-9.]+)', re.M)
REPORT_S = 12.0  # Ray's processes report every ten seconds


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("finished")
    cache = {"url": str(directory / "voices")}
    return directory, write_config(directory, cache=cache, speech_cache={"enabled": True})


def work_of_stages(client: ServiceClient) -> dict[str, float]:
    return {stage: float(count) for stage, count in WORK.findall(client.prometheus())}


def source_of(reply: httpx.Response) -> str:
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.headers["x-cache"].split(",")[0]


def test_what_was_spoken_once_is_not_made_again(place: tuple[Path, Path]) -> None:
    """One service, then another over the same store: a start takes longest of all."""
    directory, config = place
    stored = directory / "voices" / "speech"
    with running(directory, config) as client:
        made = client.speak(seed=41)
        assert not made.headers["x-cache"].startswith("speech")
        wait_until(lambda: bool(list(stored.rglob("*.sva"))))
        wait_until(lambda: set(work_of_stages(client)) == {"llm", "vocoder"})
        time.sleep(REPORT_S)
        before = work_of_stages(client)
        replies = [client.speak(seed=41) for _ in range(5)]
        assert [source_of(reply) for reply in replies] == ["speech-l1"] * 5
        assert {reply.content for reply in replies} == {made.content}
        assert client.speak(seed=41, cache="off").content == made.content
        time.sleep(REPORT_S)
        after = work_of_stages(client)
        assert after == {stage: count + 1 for stage, count in before.items()}  # the one made alone
    with running(directory, config) as client:
        again = client.speak(seed=41)
        assert source_of(again) == "speech-l3"
        assert again.content == made.content
        assert source_of(client.speak(seed=41, speed=1.25, response_format="wav")) == "speech-l1"
        _equal_requests_are_one(client)
        _a_removal_takes_it_along(client, stored)


def _equal_requests_are_one(client: ServiceClient) -> None:
    computes = client.http.get("/v1/cache").json()["speech"]["computes"]
    one = body(seed=77, input="One two three four five six seven eight nine ten.")
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(client.http.post, "/v1/audio/speech", json=one) for _ in range(8)]
        replies = [post.result() for post in posts]
    assert len({reply.content for reply in replies}) == 1
    assert client.http.get("/v1/cache").json()["speech"]["computes"] == computes + 1


def _a_removal_takes_it_along(client: ServiceClient, stored: Path) -> None:
    wait_until(lambda: len(list(stored.rglob("*.sva"))) >= 2)
    clip = client.http.post("/v1/cache/warm", content=listed_clip("aria")[0]).json()["clip"]
    assert client.http.delete(f"/v1/cache/{clip}").json()["deleted"]
    assert not list(stored.rglob("*.sva"))
    assert not source_of(client.speak(seed=41)).startswith("speech")
