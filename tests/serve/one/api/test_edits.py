"""Edits in chains on the real service, which keeps no speech here: what is asked for is made."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serve.service_client import ServiceClient, clip_of_its_own, decoded

pytestmark = pytest.mark.serve
EDITS = "/v1/audio/edits"
CLONE = {"type": "clone", "text": "One two three."}
LAUGH = {"type": "paralinguistic", "text": "One two [Laughter] three."}
CHAIN = [CLONE, {"type": "emotion", "value": "happy"}, LAUGH, {"type": "denoise"}]
FEW = {"max_new_tokens": 60, "seed": 7}  # the embedded model was not trained to edit, nor to stop


def edited(client: ServiceClient, **body: Any) -> httpx.Response:
    reply = client.http.post(EDITS, json={**FEW, "response_format": "wav", **body})
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply


def tokens(client: ServiceClient, edit_id: str, step: int) -> list[int]:
    reply = client.http.get(f"{EDITS}/{edit_id}/steps/{step}")
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.json()["tokens"]


def test_a_chain_in_one_call_and_its_steps_alone(client: ServiceClient) -> None:
    whole = edited(client, voice="aria", steps=CHAIN)
    edit_id = whole.headers["x-edit-id"]
    assert whole.headers["x-edit-steps"] == "miss, miss, miss, miss"
    listed = client.http.get(f"{EDITS}/{edit_id}").json()
    assert [step["type"] for step in listed["steps"]] == [step["type"] for step in CHAIN]
    made = [tokens(client, edit_id, step) for step in (1, 2, 3, 4)]
    assert all(made)
    for step in (1, 2, 3):
        body = {"from": {"edit": edit_id, "step": step}, "steps": CHAIN[step : step + 1]}
        alone = edited(client, **body)
        assert tokens(client, alone.headers["x-edit-id"], step + 1) == made[step]
    heard = client.http.get(listed["steps"][-1]["audio"], params={"response_format": "wav"})
    assert heard.content == whole.content
    outcome = client.http.get(f"/v1/audio/speech/{whole.headers['x-request-id']}").json()
    assert outcome["usage"]["output_tokens"] == sum(map(len, made))


def test_a_form_with_a_clip_streams_events(client: ServiceClient) -> None:
    clip, transcript = clip_of_its_own()
    fields = {
        "steps": json.dumps([{"type": "emotion", "value": "sad"}, {"type": "vad"}]),
        "transcript": transcript,
        "max_new_tokens": "60",
        "seed": "7",
        "stream_format": "sse",
    }
    files = {"audio": ("clip.wav", clip, "audio/wav")}
    reply = client.http.post(EDITS, data=fields, files=files)
    assert reply.status_code == httpx.codes.OK, reply.text
    assert reply.text.count("speech.audio.delta") >= 1
    assert '"speech.audio.done"' in reply.text
    audio = client.http.get(f"{EDITS}/{reply.headers['x-edit-id']}/steps/1/audio")
    assert len(decoded(audio.content)[0]) > 0


def test_what_a_stage_refuses_names_the_callers_field(client: ServiceClient) -> None:
    steps = [{"type": "clone", "text": "…"}, {"type": "denoise"}]  # nothing that can be spoken
    reply = client.http.post(EDITS, json={**FEW, "voice": "aria", "steps": steps})
    assert reply.status_code == httpx.codes.UNPROCESSABLE_ENTITY, reply.text
    assert reply.json()["error"]["param"] == "steps.0.text"
