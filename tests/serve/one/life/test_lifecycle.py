"""What must hold over a service's life: disconnects free everything, starts fail clearly."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serve.one.conftest import Shared
from tests.serve.service_client import (
    TEXT,
    TIMEOUT_S,
    ServiceClient,
    cloned,
    decoded,
)
from tests.waiting import eventually

pytestmark = pytest.mark.serve
FREED_WITHIN_S = 5.0  # by the disconnect itself: speaking to the end would take longer


def test_disconnects_free_the_llm_slots_and_the_vocoder(client: ServiceClient):
    """Eight listeners leave at once, in the middle of their speech."""
    assert eventually(lambda: client.busy() == (0, 0))
    before = client.log().count(" cancelled ")
    everyone_hears, leave = threading.Barrier(9), threading.Event()

    def listen(_: int) -> None:
        with client.stream(input=TEXT * 40, response_format="pcm", temperature=0) as reply:
            pieces = reply.iter_raw()  # kept: dropping it would close the connection
            next(pieces)
            everyone_hears.wait(TIMEOUT_S)
            leave.wait(TIMEOUT_S)

    with ThreadPoolExecutor(8) as pool:
        listeners = [pool.submit(listen, index) for index in range(8)]
        everyone_hears.wait(TIMEOUT_S)
        assert client.busy()[1] >= 1
        leave.set()
        for listener in listeners:
            listener.result(TIMEOUT_S)
        assert eventually(lambda: client.busy() == (0, 0), FREED_WITHIN_S, every_s=0.02)
    assert eventually(lambda: client.log().count(" cancelled ") == before + 8)


def test_a_disconnect_before_the_first_audio_frees_everything(client: ServiceClient):
    with pytest.raises(httpx.ReadTimeout):
        client.http.post(
            "/v1/audio/speech",
            json={"input": TEXT * 40, "voice": "aria", "temperature": 0},
            timeout=httpx.Timeout(TIMEOUT_S, read=0.05),
        )
    assert eventually(lambda: client.busy() == (0, 0), FREED_WITHIN_S, every_s=0.02)


def test_human_clips_go_through(client: ServiceClient, shared_dir: Path):
    transcripts = json.loads((shared_dir / "audio" / "transcripts.json").read_text())
    for name, transcript in transcripts.items():
        clip = (shared_dir / "audio" / name).read_bytes()
        request = cloned(clip, transcript, response_format="wav")
        before = client.encodes()
        reply = client.http.post("/v1/audio/speech", json=request)
        assert reply.status_code == httpx.codes.OK, (name, reply.text[:300])
        samples, rate_hz = decoded(reply.content)
        assert rate_hz == 24_000
        assert 0.1 < len(samples) / rate_hz < 60
        assert abs(samples).max() > 1e-3
        assert client.http.post("/v1/audio/speech", json=request).headers["x-cache"] == "l1"
        assert client.encodes() == before + 1


def test_a_port_in_use_leads_to_another_one(shared: Shared):
    assert shared.client.service.port != shared.asked_port
    assert shared.client.http.get("/healthz").status_code == httpx.codes.OK
    assert any(f"port {shared.asked_port} is in use" in line for line in shared.said)
