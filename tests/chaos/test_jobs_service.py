"""A job on a real service whose parts, whose whole and whose bucket go away, one after another."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cache_helpers import make_bucket, ministack
from tests.fault_proxy import FaultProxy
from tests.serve.service_client import ServiceClient
from tests.serve.services import in_bucket, running, write_config
from tests.waiting import wait_until

pytestmark = pytest.mark.chaos
N_SEGMENTS = 100
WORDS = ("Yes.", "No.", "Good.", "Maybe.", "Well done.")
AWAY_S = 30.0
GIVE_UP_S = 300.0


def look(client: ServiceClient, job: str) -> dict[str, Any]:
    return client.http.get(f"/v1/audio/jobs/{job}").raise_for_status().json()


def wait_for(client: ServiceClient, job: str, done: int) -> None:
    def is_there() -> bool:
        time.sleep(0.2)
        return look(client, job)["progress"]["done"] >= done

    wait_until(is_there, GIVE_UP_S)


def kill_all(client: ServiceClient) -> None:
    """At once, without a word to anybody."""
    root = psutil.Process(client.service.pid)
    for process in [*root.children(recursive=True), root]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def test_a_job_outlives_its_replicas_its_service_and_its_bucket(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    with ministack(tmp_path / "s3") as (endpoint, _):
        server = make_bucket(endpoint, "jobs")
        proxy = FaultProxy(int(endpoint.rpartition(":")[2]))
        cache = in_bucket(server)
        client_options = {"endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        options = cache["storage_options"]
        options["client_kwargs"] = {**options["client_kwargs"], **client_options}
        config = write_config(
            tmp_path / "service", cache=cache, speech_cache={"enabled": True, "unseeded": "off"}
        )
        inputs = [
            {"text": WORDS[number % len(WORDS)], "voice": ("aria", "bruno")[number % 2]}
            for number in range(N_SEGMENTS)
        ]
        begun: list[int] = []
        with running(tmp_path / "service", config) as client:
            made = client.http.post(
                "/v1/audio/jobs", json={"inputs": inputs, "response_format": "wav", "seed": 7}
            )
            job = made.raise_for_status().json()["id"]
            wait_for(client, job, 20)
            client.kill("Vocoder")
            wait_for(client, job, 40)
            client.kill("Jobs")
            wait_for(client, job, 70)
            kill_all(client)
            begun += begun_in(client)
        with running(tmp_path / "service", config) as client:
            wait_for(client, job, 80)
            proxy.set(refuse=True)
            time.sleep(AWAY_S)
            proxy.set()
            wait_until(lambda: look(client, job)["status"] == "completed", GIVE_UP_S)
            begun += begun_in(client)
            check(client, job, [one["text"] for one in inputs])
        proxy.close()
    assert set(begun) == set(range(N_SEGMENTS))
    assert len(begun) <= N_SEGMENTS + 2, "beyond what was in work at the two kills of its runner"


def begun_in(client: ServiceClient) -> list[int]:
    """Segments that were begun, by the service's logs."""
    logs = [client.log()]
    found = re.findall(r"segment (\d+) begins", "\n".join(logs))
    return [int(number) for number in found]


def check(client: ServiceClient, job: str, texts: list[str]) -> None:
    told = look(client, job)
    assert told["progress"]["done"] == N_SEGMENTS
    assert told["progress"]["failed"] == 0
    manifest = client.http.get(f"/v1/audio/jobs/{job}/manifest").json()
    assert [one["text"] for one in manifest["segments"]] == texts
    assert [one["segment"] for one in manifest["segments"]] == list(range(N_SEGMENTS))
    begins = [one["begin_s"] for one in manifest["segments"]]
    assert begins == sorted(begins)
    audio = client.http.get(f"/v1/audio/jobs/{job}/audio")
    assert len(audio.content) == manifest["file"]["size_bytes"]
