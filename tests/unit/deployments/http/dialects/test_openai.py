"""Bodies of clients that speak OpenAI's API, as they send them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http_app import HttpApp

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]
TEXT = "Hello there."
# client, body, what the reply is
RECORDED: list[tuple[str, dict[str, Any], str]] = [
    ("openai-python", {"input": TEXT, "model": "tts-1", "voice": "alloy"}, "audio/mpeg"),
    ("openai voice object", {"input": TEXT, "model": "tts-1-hd", "voice": {"id": "cedar"},
     "response_format": "opus", "speed": 1.0}, "audio/ogg"),
    ("livekit", {"input": TEXT, "model": "gpt-4o-mini-tts", "voice": "ash", "speed": 1.0,
     "response_format": "mp3", "stream_format": "sse"}, "text/event-stream"),
    ("livekit tts-1", {"input": TEXT, "model": "tts-1", "voice": "ash", "speed": 1.0,
     "response_format": "mp3", "stream_format": "audio"}, "audio/mpeg"),
    ("pipecat", {"input": TEXT, "model": "gpt-4o-mini-tts", "voice": "alloy",
     "response_format": "pcm", "instructions": "Slowly.", "speed": 1.2}, "audio/pcm"),
    ("open webui", {"model": "tts-1", "input": TEXT, "voice": "alloy"}, "audio/mpeg"),
    ("sillytavern", {"model": "tts-1", "input": TEXT, "voice": "nova", "speed": 1,
     "response_format": "mp3", "instructions": ""}, "audio/mpeg"),
    ("home assistant", {"model": "tts-1", "input": TEXT, "voice": "shimmer", "speed": 1.0,
     "response_format": "wav"}, "audio/wav"),
    ("extras of strangers", {"input": TEXT, "voice": "alloy", "user": "u", "lang_code": "a",
     "return_download_link": False, "volume_multiplier": 1.0}, "audio/mpeg"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind"), [r[1:] for r in RECORDED], ids=[r[0] for r in RECORDED])
async def test_they_are_spoken(app: HttpApp, body: dict[str, Any], kind: str):
    headers = {"accept": "application/octet-stream", "authorization": "Bearer unused"}
    reply = await app.http.post("/v1/audio/speech", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith(kind)
    assert app.synthesizer.requests[-1].text == TEXT


async def test_a_reply_without_a_word_about_streaming_is_streamed(app: HttpApp):
    reply = await app.http.post("/v1/audio/speech", json=RECORDED[0][1])
    assert "content-length" not in reply.headers
    assert {"x-audio-sample-rate", "x-audio-channels", "x-request-id"} <= set(reply.headers)
