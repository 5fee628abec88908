"""What must hold over a service's life: disconnects free everything, starts fail clearly."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml

from pipeline.errors import SetupError
from tests.serve.conftest import START_TIMEOUT_S, Shared, running, write_config
from tests.serve.service_client import (
    TEXT,
    TIMEOUT_S,
    ServiceClient,
    clip_of_its_own,
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


def test_a_gpu_that_is_not_there_is_a_message_within_seconds(tmp_path: Path):
    config = write_config(tmp_path)
    raw = yaml.safe_load(config.read_text())
    application = raw["applications"][0]
    application["args"]["llm"].update(device="cuda", gpu_memory_gib=4)
    for deployment in application["deployments"]:
        if deployment["name"] == "LLM":
            deployment["ray_actor_options"]["num_gpus"] = 0.5
    config.write_text(yaml.safe_dump(raw))
    began_s = time.monotonic()
    said = r"did not start: there is no GPU here, and .* asks for 0.5 \(LLM 1 × 0.5\); without one"
    with pytest.raises(SetupError, match=said):
        with running(tmp_path, config):
            pass
    assert time.monotonic() - began_s < START_TIMEOUT_S / 2, "it did not wait for the end of it"


def test_routers_share_what_one_of_them_had_encoded(many: ServiceClient):
    """Two routers and two vocoders: one encode, the other router answers from the object store."""
    request, before = cloned(*clip_of_its_own()), many.encodes()
    assert eventually(lambda: len(many.replicas("Router")) == 2)
    tiers: set[str] = set()
    contents: set[bytes] = set()

    def both_have_answered() -> bool:
        replies = [many.http.post("/v1/audio/speech", json=request) for _ in range(8)]
        tiers.update(reply.headers["x-cache"] for reply in replies)
        contents.update(reply.content for reply in replies)
        return {"miss", "l2"} <= tiers

    assert eventually(both_have_answered), tiers
    assert many.encodes() == before + 1
    assert tiers <= {"miss", "l1", "l2"}
    assert len(contents) == 1


def test_a_port_in_use_leads_to_another_one(shared: Shared):
    assert shared.client.service.port != shared.asked_port
    assert shared.client.http.get("/healthz").status_code == httpx.codes.OK
    assert any(f"port {shared.asked_port} is in use" in line for line in shared.said)
