"""An uploaded voice on the running service: on every router at once, and refused once deleted."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serve.service_client import ServiceClient, listed_clip
from tests.waiting import eventually

pytestmark = pytest.mark.serve
VOICES = "/v1/audio/voices"


def uploaded(client: ServiceClient, name: str) -> dict[str, Any]:
    clip, transcript = listed_clip("elena")
    reply = client.http.post(
        VOICES,
        data={"name": name, "consent": "I agree that my voice is cloned.", "ref_text": transcript},
        files={"audio_sample": ("v.wav", clip, "audio/wav")},
    )
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.json()["voice"]


def test_a_voice_is_everywhere_at_once_and_stays_deleted(many: ServiceClient):
    assert eventually(lambda: len(many.replicas("Router")) == 2)
    kept, gone = uploaded(many, "Ada"), uploaded(many, "Yan")
    assert kept["quality"]["findings"] == []
    replies = [many.speak(voice=named, cache="off") for named in ("Ada", kept["id"], "ada") * 3]
    assert {reply.status_code for reply in replies} == {httpx.codes.OK}
    assert len({reply.content for reply in replies}) == 1
    assert {many.speak(voice="Yan").status_code for _ in range(4)} == {httpx.codes.OK}
    assert many.http.delete(f"{VOICES}/{gone['id']}").json()["deleted"] is True
    refused = [many.speak(voice=named) for named in ("Yan", gone["id"]) * 4]
    assert {reply.status_code for reply in refused} == {httpx.codes.NOT_FOUND}
