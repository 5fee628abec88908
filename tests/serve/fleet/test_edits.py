"""Edits over several routers: what one made any other finds, and goes on from; a deletion."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serve.service_client import ServiceClient, clip_of_its_own
from tests.waiting import eventually

pytestmark = pytest.mark.serve
EDITS = "/v1/audio/edits"
STEPS = [{"type": "emotion", "value": "happy"}, {"type": "denoise"}]
FEW = {"max_new_tokens": 60, "seed": 11, "response_format": "wav"}
ASKED = 8  # often enough that both routers answer


def edited(client: ServiceClient, **body: Any) -> httpx.Response:
    reply = client.http.post(EDITS, json={**FEW, **body})
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply


def test_any_router_goes_on_and_a_deletion_reaches_all(many: ServiceClient) -> None:
    clip, transcript = clip_of_its_own()
    sent = {"name": "Edited", "consent": "I agree that my voice is cloned.", "ref_text": transcript}
    files = {"audio_sample": ("v.wav", clip, "audio/wav")}
    uploaded = many.http.post("/v1/audio/voices", data=sent, files=files)
    assert uploaded.status_code == httpx.codes.OK, uploaded.text
    made = edited(many, voice="edited", steps=STEPS)
    edit_id = made.headers["x-edit-id"]
    for _ in range(ASKED):
        again = edited(many, **{"from": edit_id}, type="vad")
        assert all(
            step.startswith("speech-") for step in again.headers["x-edit-steps"].split(", ")[:2]
        )
        audio = f"{EDITS}/{edit_id}/steps/2/audio?response_format=wav"
        assert many.http.get(audio).content == made.content
    assert many.http.delete("/v1/audio/voices/Edited").status_code == httpx.codes.OK

    def is_gone() -> bool:
        paths = ("", "/steps/1", "/steps/2/audio")
        replies = [many.http.get(f"{EDITS}/{edit_id}{path}") for path in paths for _ in range(3)]
        return {reply.status_code for reply in replies} == {httpx.codes.NOT_FOUND}

    assert eventually(is_gone)
    going_on = {**FEW, "from": edit_id, "type": "vad"}
    assert many.http.post(EDITS, json=going_on).status_code == httpx.codes.NOT_FOUND
