"""`serve deploy` on a running service: nobody waits for an update, and a failed one is no loss."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serve.one.life.conftest import FromWheel
from tests.serve.ray_cluster import stage
from tests.serve.service_client import TEXT
from tests.waiting import eventually

pytestmark = pytest.mark.serve
N_SHORT = 2


def test_a_failed_update_leaves_the_old_replica_serving(updatable: FromWheel):
    client, (old,) = updatable.client, stage(updatable.client, "LLM").serving
    said = client.speak(cache="off").content
    weights = updatable.model / "Step-Audio-EditX" / "model.safetensors"
    good = weights.rename(weights.with_suffix(".good"))  # mapped by the replica that runs
    weights.write_bytes(good.read_bytes()[:1000])
    try:
        updatable.restart_llm(0.4)
        assert eventually(lambda: stage(client, "LLM").app_status == "DEPLOY_FAILED", every_s=0.25)
        time.sleep(2.0)  # in which the old replica would be stopped
        failed = stage(client, "LLM")
    finally:
        good.replace(weights)
    assert failed.serving == {old}
    assert "a weight file cannot be read" in failed.message
    assert client.speak(cache="off").content == said
    assert client.ready()["ready"]


def test_a_stage_of_one_replica_is_updated_and_nobody_waits(updatable: FromWheel):
    client, (old,) = updatable.client, stage(updatable.client, "LLM").serving
    done = threading.Event()

    def speak_again_and_again(text: str) -> list[tuple[int, float]]:
        replies: list[tuple[int, float]] = []
        while not done.is_set():
            began_s = time.monotonic()
            status = client.speak(input=text, cache="off").status_code
            replies.append((status, time.monotonic() - began_s))
        return replies

    with ThreadPoolExecutor(N_SHORT + 1) as pool:
        talks = [pool.submit(speak_again_and_again, TEXT) for _ in range(N_SHORT)]
        stream = pool.submit(client.speak, input=TEXT * 20)
        try:
            updatable.restart_llm(0.3)
            began_s = time.monotonic()
            least = 1

            def is_updated() -> bool:
                nonlocal least
                now = stage(client, "LLM")
                least = min(least, len(now.serving))
                return now.serving != {old} and now.app_status == "RUNNING"

            assert eventually(is_updated, every_s=0.1)
            start_s = time.monotonic() - began_s
        finally:
            done.set()
        replies = [reply for talk in talks for reply in talk.result()]
    assert {status for status, _ in replies} == {httpx.codes.OK}
    assert stream.result().status_code == httpx.codes.OK
    assert old not in stage(client, "LLM").serving
    assert least == 1, "for a while there was no replica"
    longest_s = max(seconds for _, seconds in replies)
    assert longest_s < start_s / 2, f"somebody waited {longest_s:.1f} s of the {start_s:.1f}"
