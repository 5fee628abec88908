"""On the real service, whatever door speech leaves by, the service itself finds its mark."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI
from websockets.sync.client import connect

from tests.audio_files import wav
from tests.serve.service_client import TIMEOUT_S, ServiceClient

pytestmark = pytest.mark.serve
TEXT = "One two three four. You only need to hear a voice once."
SAID = {"input": TEXT, "voice": "aria", "seed": 18}
TURNS = [{"text": TEXT, "voice_id": "aria"}, {"text": TEXT, "voice_id": "bruno"}]
MARKED = "synthetic, watermark=resemble-perth"


def checked(client: ServiceClient, audio: bytes) -> dict[str, Any]:
    reply = client.http.post("/v1/content_provenance_checks", files={"file": ("some.audio", audio)})
    assert reply.status_code == httpx.codes.OK, reply.text
    return {one["type"]: one for one in reply.json()["results"]}["watermark"]


def posted(path: str, **body: Any) -> Callable[[ServiceClient], tuple[bytes, str]]:
    def ask(client: ServiceClient) -> tuple[bytes, str]:
        reply = client.http.post(path, json=body)
        assert reply.status_code == httpx.codes.OK, reply.text
        return reply.content, reply.headers["x-provenance"]

    return ask


def events(client: ServiceClient) -> tuple[bytes, str]:
    reply = client.http.post("/v1/audio/speech", json={**SAID, "stream_format": "sse"})
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    deltas = [json.loads(line).get("audio", "") for line in lines]
    return b"".join(map(base64.b64decode, deltas)), reply.headers["x-provenance"]


def batch(client: ServiceClient) -> tuple[bytes, str]:
    reply = client.http.post("/v1/audio/speech/batch", json={"items": [SAID]})
    (result,) = reply.json()["results"]
    return base64.b64decode(result["audio_data"]), result["provenance"]


def session(client: ServiceClient) -> tuple[bytes, str]:
    address = client.service.url.replace("http", "ws", 1) + "/v1/audio/speech/stream"
    pcm = b""
    with connect(address, proxy=None) as socket:
        assert socket.response is not None
        provenance = socket.response.headers["X-Provenance"]
        config = {"voice": "aria", "response_format": "pcm", "seed": 18}
        for message in (
            {"type": "session.config", **config},
            {"type": "input.text", "text": TEXT},
            {"type": "input.done"},
        ):
            socket.send(json.dumps(message))
        while True:
            message = socket.recv(TIMEOUT_S)
            if isinstance(message, bytes):
                pcm += message
            elif json.loads(message)["type"] == "session.done":
                break
    samples = np.frombuffer(pcm, np.int16) / 32_768
    return wav(samples[np.newaxis], 24_000), provenance


def step_of_an_edit(client: ServiceClient) -> tuple[bytes, str]:
    made = client.http.post("/v1/audio/edits", json=EDIT)
    assert made.status_code == httpx.codes.OK, made.text
    path = f"/v1/audio/edits/{made.headers['x-edit-id']}/steps/1/audio"
    reply = client.http.get(path, params={"response_format": "flac"})
    return reply.content, reply.headers["x-provenance"]


def job(path: str) -> Callable[[ServiceClient], tuple[bytes, str]]:
    def ask(client: ServiceClient) -> tuple[bytes, str]:
        body = {"inputs": [{"text": TEXT, "voice": "aria"}], "seed": 18}
        made = client.http.post("/v1/audio/jobs", json=body)
        assert made.status_code == httpx.codes.OK, made.text
        address = f"/v1/audio/jobs/{made.json()['id']}"
        give_up_s = time.monotonic() + TIMEOUT_S
        while client.http.get(address).json()["status"] != "completed":
            assert time.monotonic() < give_up_s
            time.sleep(0.5)
        reply = client.http.get(address + path)
        assert reply.status_code == httpx.codes.OK, reply.text
        return reply.content, reply.headers["x-provenance"]

    return ask


EDIT = {"voice": "aria", "steps": [{"type": "clone", "text": TEXT}], "seed": 18}
DOORS: dict[str, Callable[[ServiceClient], tuple[bytes, str]]] = {
    "speech": posted("/v1/audio/speech", **SAID),
    "whole": posted("/v1/audio/speech", **SAID, stream=False, response_format="flac"),
    "opus": posted("/v1/audio/speech", **SAID, response_format="opus"),
    "slow": posted("/v1/audio/speech", **SAID, speed=0.8),
    "fast": posted("/v1/audio/speech", **SAID, speed=1.25),
    "events": events,
    "batch": batch,
    "session": session,
    "dialogue": posted("/v1/text-to-dialogue", inputs=TURNS),
    "fish": posted("/v1/tts", text=TEXT, reference_id="aria", format="mp3"),
    "ElevenLabs": posted("/v1/text-to-speech/aria", text=TEXT),
    "edit": posted("/v1/audio/edits", **EDIT),
    "step of an edit": step_of_an_edit,
    "part of a job": job("/segments/0/audio"),
    "file of a job": job("/audio"),
}


OF_EACH_KIND = {"speech", "session", "edit", "file of a job"}  # all doors: a unit test's, too


@pytest.mark.parametrize(
    "door",
    [
        pytest.param(door, marks=() if door in OF_EACH_KIND else pytest.mark.exhaustive)
        for door in DOORS
    ],
)
def test_the_mark_is_found_behind_every_door(door: str, client: ServiceClient) -> None:
    audio, provenance = DOORS[door](client)
    assert provenance == MARKED
    found = checked(client, audio)
    assert found["outcome"] == "detected", found


def test_who_goes_without_a_mark_is_logged_and_heard_without(client: ServiceClient) -> None:
    headers = {"X-Mark": "off", "X-Request-Id": "unmarked-4711"}
    reply = client.http.post(
        "/v1/audio/speech", json={**SAID, "response_format": "wav"}, headers=headers
    )
    assert reply.headers["x-provenance"] == "synthetic, watermark=none"
    assert checked(client, reply.content)["outcome"] == "not_detected"
    assert "unmarked-4711" in client.log()


def test_openais_client_checks_files(client: ServiceClient) -> None:
    audio, _ = DOORS["speech"](client)
    with OpenAI(base_url=f"{client.service.url}/v1", api_key="unused") as openai:
        found = openai.content_provenance_checks.create(file=("a.mp3", io.BytesIO(audio)))
    assert found.results[0].outcome == "detected"
