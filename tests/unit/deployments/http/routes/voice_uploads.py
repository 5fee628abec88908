"""Uploads of voices, as the tests of their routes make them."""

from __future__ import annotations

from typing import Any

import httpx

from pipeline.voice_list import load_voices
from tests.http_app import CLIP, SAID, HttpApp

VOICES = "/v1/audio/voices"
CONSENTS = "/v1/audio/voice_consents"
AGREED = "I agree that my voice is cloned."
OTHER_CLIP = load_voices()["elena"].path.read_bytes()
BUILT_IN = list(load_voices())


def form(**fields: str) -> dict[str, Any]:
    return {"data": fields, "files": {"audio_sample": ("v.wav", CLIP, "audio/wav")}}


async def upload(app: HttpApp, name: str = "Zoe", **fields: str) -> dict[str, Any]:
    """A voice as vLLM-Omni's clients upload it; its object."""
    sent = {"name": name, "consent": AGREED, "ref_text": SAID, **fields}
    reply = await app.http.post(VOICES, **form(**sent))
    assert reply.status_code == httpx.codes.OK, reply.text
    body = reply.json()
    assert set(body) == {"success", "voice"}
    assert body["success"] is True
    return body["voice"]
