"""Stages grow, shrink and sleep while they serve, and who leaks is replaced: nobody fails.

The times that it takes are shown by `pytest -rP`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from deployments.voices.resolver import ENCODER_POLL_S
from pipeline.audio.decode import decode_clip
from tests.audio_files import wav
from tests.serve.leaky import LONG_S
from tests.serve.one.life.conftest import FromWheel, Updatable
from tests.serve.ray_cluster import stage
from tests.serve.service_client import TEXT, ServiceClient, clip_of_its_own, cloned
from tests.waiting import eventually

pytestmark = pytest.mark.serve

STAGES = ("Router", "Tokenizer", "LLM", "Vocoder", "Jobs")
QUICK = {"upscale_delay_s": 0, "downscale_delay_s": 1, "metrics_interval_s": 1}
FEWEST = 3  # replies of each talker, so that there was load


def pids(client: ServiceClient) -> dict[str, set[int]]:
    return {name: {process.pid for process in client.replicas(name)} for name in STAGES}


def tell(measured: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(measured) + "\n")


def took_s(check: Callable[[], bool]) -> float:
    began_s = time.monotonic()
    assert eventually(check, every_s=0.1)
    return round(time.monotonic() - began_s, 1)


@contextmanager
def under_load(talkers: int, speak: Callable[[], httpx.Response]) -> Iterator[list[int]]:
    """So many speak again and again; their replies' status codes are there at the end."""
    done, codes = threading.Event(), list[int]()

    def talk() -> None:
        n = 0
        while not done.is_set() or n < FEWEST:
            codes.append(speak().status_code)
            n += 1

    with ThreadPoolExecutor(talkers) as pool:
        talks = [pool.submit(talk) for _ in range(talkers)]
        try:
            yield codes
        finally:
            done.set()
        for one in talks:
            one.result()


def test_an_edit_of_the_config_scales_a_stage_and_restarts_nothing(updatable: FromWheel):
    client = updatable.client
    updatable.scale("Router", max_replicas=1)  # the load is not to scale it
    client.speak()
    before = pids(client)
    assert {len(found) for found in before.values()} == {1}
    with under_load(2, lambda: client.speak(input=TEXT, cache="off")) as codes:
        updatable.scale("LLM", min_replicas=2, max_replicas=2)
        grown_s = took_s(lambda: len(stage(client, "LLM").serving) == 2)
        during = pids(client)
        time.sleep(2.0)  # the second one serves, too
        updatable.scale("LLM", min_replicas=1, max_replicas=1)
        shrunk_s = took_s(lambda: len(stage(client, "LLM").states) == 1)
    tell({"LLM 1 -> 2, s": grown_s, "2 -> 1, s": shrunk_s, "replies": len(codes)})
    assert set(codes) == {httpx.codes.OK}
    assert during["LLM"] > before["LLM"]
    after = pids(client)
    assert after["LLM"] < during["LLM"]
    assert len(after["LLM"]) == 1
    assert (
        [during[name] for name in STAGES if name != "LLM"]
        == [before[name] for name in STAGES if name != "LLM"]
        == [after[name] for name in STAGES if name != "LLM"]
    )


@pytest.mark.exhaustive
def test_the_bottleneck_grows_by_itself_and_shrinks_again(scalable: Updatable):
    client = scalable.client
    scalable.scale("Vocoder", max_replicas=2, look_back_period_s=5, **QUICK)
    (old,) = stage(client, "Vocoder").serving
    with under_load(4, lambda: client.speak(input=TEXT * 4)) as codes:
        decided_s = took_s(lambda: len(stage(client, "Vocoder").states) == 2)
        ready_s = took_s(lambda: len(stage(client, "Vocoder").serving) == 2)
    back_s = took_s(lambda: len(stage(client, "Vocoder").states) == 1)
    scalable.scale("Vocoder", max_replicas=1)
    tell(
        {
            "Vocoder: decided after, s": decided_s,
            "another serves after, s": round(decided_s + ready_s, 1),
            "one again, after the load, s": back_s,
            "replies": len(codes),
        }
    )
    assert set(codes) == {httpx.codes.OK}
    assert decided_s < 20
    assert client.ready()["ready"]
    assert old


@pytest.mark.exhaustive
def test_a_tokenizer_sleeps_and_the_first_who_needs_it_is_served(scalable: Updatable):
    client = scalable.client
    known = client.speak()
    scalable.scale(
        "Tokenizer", min_replicas=0, look_back_period_s=3, downscale_to_zero_delay_s=0.5, **QUICK
    )
    asleep_s = took_s(lambda: not stage(client, "Tokenizer").states)
    time.sleep(ENCODER_POLL_S + 1)  # in which every router looks whether the encoder was replaced
    assert not stage(client, "Tokenizer").states
    report = client.ready()
    assert report["ready"]
    assert report["stages"]["tokenizer"] == {"state": "asleep", "replicas": []}
    again = client.speak()
    assert (again.status_code, again.content) == (httpx.codes.OK, known.content)
    assert not stage(client, "Tokenizer").states, "a known voice needs no tokenizer"
    began_s = time.monotonic()
    first = client.http.post("/v1/audio/speech", json=cloned(*clip_of_its_own()))
    first_s = round(time.monotonic() - began_s, 1)
    began_s = time.monotonic()
    second = client.http.post("/v1/audio/speech", json=cloned(*clip_of_its_own()))
    second_s = round(time.monotonic() - began_s, 1)
    told = {"asleep after, s": asleep_s, "first miss, s": first_s, "awake, s": second_s}
    tell(told)
    assert [first.status_code, second.status_code] == [httpx.codes.OK] * 2
    scalable.scale("Tokenizer", min_replicas=1)


def long_clip() -> tuple[bytes, str]:
    clip, transcript = clip_of_its_own()
    known = decode_clip(clip)
    times = int(LONG_S * known.sample_rate_hz / len(known.samples)) + 2
    return wav(np.tile(known.samples, times)[np.newaxis], known.sample_rate_hz), transcript


@pytest.mark.exhaustive
def test_a_replica_that_outgrows_its_memory_is_replaced_and_nobody_fails(scalable: Updatable):
    client = scalable.client
    scaling = {"min_replicas": 1, "max_replicas": 2, **QUICK}
    scalable.update("Tokenizer", autoscaling_config=scaling, health_check_period_s=1)
    assert eventually(lambda: len(stage(client, "Tokenizer").serving) == 1, every_s=0.25)
    (leaky,) = stage(client, "Tokenizer").serving

    def speak() -> httpx.Response:
        return client.http.post("/v1/audio/speech", json=cloned(*clip_of_its_own()))

    least = 1
    with under_load(1, speak) as codes:
        leak = client.http.post("/v1/audio/speech", json=cloned(*long_clip()))

        def is_replaced() -> bool:
            nonlocal least
            now = stage(client, "Tokenizer")
            least = min(least, len(now.serving))
            return leaky not in now.states

        replaced_s = took_s(is_replaced)
    back_s = took_s(lambda: len(stage(client, "Tokenizer").states) == 1)
    told = {"replaced after, s": replaced_s, "one again, s": back_s, "replies": len(codes)}
    tell(told)
    assert leak.status_code == httpx.codes.OK
    assert set(codes) == {httpx.codes.OK}
    assert least == 1, "for a while there was none"
    assert eventually(lambda: stage(client, "Tokenizer").app_status == "RUNNING", every_s=0.25)
