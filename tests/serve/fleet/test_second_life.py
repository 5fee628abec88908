"""What a bucket keeps of a service killed with -9: another finds voices and speech, ends a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest

from tests.cache_helpers import S3Server
from tests.fault_proxy import FaultProxy
from tests.serve.fleet.long_job import N_SEGMENTS, LongJob
from tests.serve.fleet.test_finished_speech import source_of
from tests.serve.fleet.test_uploaded_voices import VOICES, uploaded
from tests.serve.service_client import ServiceClient, clip_of_its_own, cloned
from tests.serve.services import in_bucket, running, write_config
from tests.waiting import wait_until

pytestmark = pytest.mark.chaos
AWAY_S = 12.0  # longer than the store is asked again for, and than two leases of a job


@dataclass(frozen=True, slots=True)
class Life:
    """A service after another's death, and what that one was asked and answered.

    bucket: the way to it. job: what the other had not ended.
    """

    client: ServiceClient
    bucket: FaultProxy
    job: LongJob
    clip: dict[str, object]
    spoken_of_clip: bytes
    voice_id: str
    spoken_by_voice: bytes
    finished: bytes


@pytest.fixture(scope="module")
def second(
    many: ServiceClient,
    s3_server: S3Server,
    bucket: FaultProxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Life]:
    """Ends the first service with kill -9: nothing else may use it afterwards."""
    clip, transcript = clip_of_its_own()
    asked = cloned(clip, transcript, cache="off")
    assert many.http.post("/v1/cache/warm", content=clip).json()["is_durable"]
    of_clip = many.http.post("/v1/audio/speech", json=asked)
    kept, gone = uploaded(many, "Zoe"), uploaded(many, "Gus")
    by_voice = many.speak(voice="Zoe", cache="off")
    assert many.http.delete(f"{VOICES}/{gone['id']}").json()["deleted"] is True
    finished = many.speak(seed=45)
    assert not source_of(finished).startswith("speech")
    wait_until(lambda: pending_speech(many) == 0)
    job = begun_and_disturbed(many)
    killed(many)
    job.note_begun(many)
    directory = tmp_path_factory.mktemp("second")
    config = write_config(
        directory, cache=in_bucket_by(bucket, s3_server), speech_cache={"enabled": True}
    )
    with running(directory, config) as client:
        answered = (of_clip.content, kept["id"], by_voice.content, finished.content)
        yield Life(client, bucket, job, asked, *answered)


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> Iterator[FaultProxy]:
    way = FaultProxy(int(s3_server.endpoint.rpartition(":")[2]))
    yield way
    way.close()


def in_bucket_by(way: FaultProxy, server: S3Server) -> dict[str, Any]:
    """Settings of a cache there."""
    settings = in_bucket(server)
    options = settings["storage_options"]
    there = {**options["client_kwargs"], "endpoint_url": f"http://127.0.0.1:{way.port}"}
    return {**settings, "storage_options": {**options, "client_kwargs": there}}


def begun_and_disturbed(client: ServiceClient) -> LongJob:
    """A job that lost a vocoder, then its runner, and is not ended."""
    job = LongJob.ask(client)
    job.wait_for(client, 20)
    client.kill("Vocoder")
    job.wait_for(client, 40)
    client.kill("Jobs")
    job.wait_for(client, 70)
    return job


def pending_speech(client: ServiceClient) -> int:
    """Records that every router still has to write; asked often enough to meet both."""
    reports = [client.http.get("/v1/cache").json()["speech"] for _ in range(8)]
    return sum(report["tiers"]["l3"]["writeback_entries"] for report in reports)


def killed(client: ServiceClient) -> None:
    """kill -9 of every process of the service."""
    root = psutil.Process(client.service.pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def test_a_job_outlives_its_replicas_its_service_and_its_bucket(second: Life):
    client, job = second.client, second.job
    job.wait_for(client, 80)
    second.bucket.set(refuse=True)
    time.sleep(AWAY_S)
    second.bucket.set()
    job.wait_for_its_end(client)
    job.require_whole(client)
    job.note_begun(client)
    assert set(job.begun) == set(range(N_SEGMENTS))
    most = N_SEGMENTS + 2
    assert len(job.begun) <= most, "beyond what was in work at the two kills of its runner"


def test_a_clip_need_not_be_encoded_again(second: Life):
    before = second.client.encodes()
    found = second.client.http.post("/v1/audio/speech", json=second.clip)
    assert found.headers["x-cache"] == "l3"
    assert found.content == second.spoken_of_clip
    assert second.client.encodes() == before


def test_speech_is_not_made_again(second: Life):
    again = second.client.speak(seed=45)
    assert source_of(again) == "speech-l3"
    assert again.content == second.finished
    assert source_of(second.client.speak(seed=45, response_format="wav")) == "speech-l1"


def test_an_uploaded_voice_is_there_and_a_deleted_one_is_not(second: Life):
    client = second.client
    listed = {voice["name"] for voice in client.http.get(VOICES).json()["uploaded_voices"]}
    assert "Zoe" in listed
    assert "Gus" not in listed
    before = client.encodes()
    again = client.speak(voice={"id": second.voice_id}, cache="off")
    assert (again.status_code, again.headers["x-cache"]) == (httpx.codes.OK, "l3")
    assert again.content == second.spoken_by_voice
    assert client.encodes() == before
    assert client.speak(voice="Gus").status_code == httpx.codes.NOT_FOUND
    assert client.http.delete(f"{VOICES}/Zoe").json()["success"] is True
    assert client.speak(voice="Zoe").status_code == httpx.codes.NOT_FOUND
