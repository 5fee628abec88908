"""Clips without a transcript on the running service: heard once, whichever router is asked.

What the recogniser says is nonsense, for it is untrained; the same clip has the same words.
"""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.serve.service_client import ServiceClient, listed_clip
from tests.waiting import eventually

pytestmark = pytest.mark.serve
VOICES = "/v1/audio/voices"


def heard(client: ServiceClient) -> int:
    """Clips that the recogniser was asked to hear."""
    (replica,) = client.ready()["stages"]["asr"]["replicas"]
    return replica["clips"]


def test_a_clip_is_heard_once_and_its_voice_speaks(many: ServiceClient):
    assert eventually(lambda: len(many.replicas("Router")) == 2)
    before = heard(many)
    clip, transcript = listed_clip("elena")
    encoded = base64.b64encode(clip).decode()
    replies = [many.speak(voice=None, ref_audio=encoded) for _ in range(6)]
    assert {reply.status_code for reply in replies} == {httpx.codes.OK}, replies[0].text
    assert len({reply.content for reply in replies}) == 1
    told = many.speak(voice=None, ref_audio=encoded, ref_text=transcript)
    assert told.status_code == httpx.codes.OK
    assert told.content != replies[0].content
    kept = many.http.post(
        VOICES,
        data={"name": "Ida", "consent": "I agree that my voice is cloned."},
        files={"audio_sample": ("v.wav", clip, "audio/wav")},
    ).json()["voice"]
    assert kept["transcript_source"] == "asr"
    assert kept["ref_text"]
    assert many.speak(voice="Ida").content == replies[0].content
    assert heard(many) == before + 1
    changed = many.http.post(f"{VOICES}/Ida", json={"ref_text": transcript}).json()
    assert changed["transcript_source"] == "given"
    assert many.speak(voice="Ida").content == told.content
    assert many.http.delete(f"{VOICES}/Ida").status_code == httpx.codes.OK
