"""Bodies of fish-speech's clients, in the three encodings they come in."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import msgpack
import pytest

from pipeline.audio.encode import wav_header
from tests.fakes import SAMPLES_PER_GROUP
from tests.http_app import CLIP, SAID, HttpApp, error_of
from tests.unit.deployments.http.bodies.sent import FORM, JSON, file_part, form, part

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]
ENCODED = base64.b64encode(CLIP).decode()
TEXT = "Grüß Gott."
MSGPACK = "application/msgpack"
# What its clients send whole, defaults included: tools/api_client.py, and the SDK's TTSRequest.
DEFAULTS = {
    "text": TEXT, "references": [], "reference_id": None, "format": "wav", "latency": "normal",
    "max_new_tokens": 1024, "chunk_length": 300, "top_p": 0.8, "repetition_penalty": 1.1,
    "temperature": 0.8, "streaming": False, "use_memory_cache": "off", "seed": None,
    "normalize": True,
}  # fmt: skip
SDK = {
    "text": TEXT, "chunk_length": 200, "format": "mp3", "sample_rate": None, "mp3_bitrate": 128,
    "opus_bitrate": 32, "references": [], "reference_id": "bruno", "normalize": True,
    "latency": "balanced", "prosody": None, "top_p": 0.7, "temperature": 0.7,
}  # fmt: skip


async def ask(app: HttpApp, **fields: Any) -> httpx.Response:
    return await app.http.post("/v1/tts", json={**DEFAULTS, **fields})


@pytest.mark.parametrize("body", [DEFAULTS, SDK, {"text": TEXT}], ids=["client", "sdk", "least"])
@pytest.mark.parametrize("label", [MSGPACK, JSON, None])
async def test_their_clients_bodies(app: HttpApp, body: dict[str, Any], label: str | None):
    content = json.dumps(body).encode() if label == JSON else msgpack.packb(body)
    reply = await app.post(content, label, "/v1/tts")
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == ("audio/mpeg" if body is SDK else "audio/wav")
    made = app.synthesizer.requests[-1]
    assert made.text == TEXT
    assert (made.sampling.top_p, made.sampling.temperature) == (
        body.get("top_p"),
        body.get("temperature"),
    )


@pytest.mark.parametrize("label", [MSGPACK, None, "text/plain", FORM])
async def test_json_is_json_whatever_its_label(app: HttpApp, label: str | None):
    content = json.dumps(DEFAULTS, ensure_ascii=False).encode()
    assert (await app.post(content, label, "/v1/tts")).status_code == 200


@pytest.mark.parametrize("label", [MSGPACK, JSON])
async def test_a_clip_comes_in_references(app: HttpApp, label: str):
    audio: Any = CLIP if label == MSGPACK else ENCODED
    body = {**DEFAULTS, "references": [{"audio": audio, "text": SAID}]}
    content = msgpack.packb(body) if label == MSGPACK else json.dumps(body).encode()
    assert (await app.post(content, label, "/v1/tts")).status_code == 200
    assert app.synthesizer.requests[-1].transcript == SAID
    assert app.synthesizer.speakers[-1] == await app.speaker(voice="bruno")


FORMS = [
    (file_part("audio"), part("reference_text", SAID.encode())),
    (file_part("references[0][audio]"), part("references[0][text]", SAID.encode())),
    (file_part("references.0.audio"), part("references.0.text", SAID.encode())),
    (file_part("references"), part("ref_text", SAID.encode())),
    (part("references", json.dumps([{"audio": ENCODED, "text": SAID}]).encode()),),
    (part("payload", json.dumps({"text": TEXT, "references": {"audio": ENCODED, "text": SAID}})
          .encode()),),
]  # fmt: skip


@pytest.mark.parametrize("parts", FORMS, ids=range(len(FORMS)))
async def test_forms(app: HttpApp, parts: tuple[bytes, ...]):
    fields = (part("text", TEXT.encode()), part("streaming", b"false"), part("format", b"pcm"))
    content = form(*fields[:1], *parts) if len(parts) == 1 else form(*fields, *parts)
    reply = await app.post(content, FORM, "/v1/tts")
    assert reply.status_code == 200, reply.text
    made = app.synthesizer.requests[-1]
    assert (made.text, made.transcript) == (TEXT, SAID)


async def test_urlencoded_forms(app: HttpApp):
    label = "application/x-www-form-urlencoded"
    reply = await app.post(b"text=Hello&reference_id=bruno&top_p=0.5", label, "/v1/tts")
    assert reply.status_code == 200, reply.text
    assert app.synthesizer.requests[-1].sampling.top_p == 0.5


@pytest.mark.parametrize("reference_id", ["bruno", ["bruno"], " Bruno ", "happy_en"])
async def test_a_voice_comes_in_reference_id(app: HttpApp, reference_id: Any):
    assert (await ask(app, reference_id=reference_id)).status_code == 200


async def test_a_reply_is_whole_unless_streaming_is_asked_for(app: HttpApp):
    whole, streamed = await ask(app), await ask(app, streaming=True)
    assert whole.content[:44] == wav_header(24_000, n_samples=2 * SAMPLES_PER_GROUP)
    assert whole.content[44:] == streamed.content[44:]
    assert "content-length" not in streamed.headers


async def test_speed_rate_and_bit_rate_are_applied(app: HttpApp):
    assert (await ask(app, prosody={"speed": 1.5, "volume": 0})).status_code == 200
    assert app.synthesizer.requests[-1].speed == 1.5
    assert (await ask(app, sample_rate=44_100)).headers["x-audio-sample-rate"] == "44100"
    sizes = [len((await ask(app, format="mp3", mp3_bitrate=k)).content) for k in (64, 128)]
    assert sizes[1] > 1.5 * sizes[0]
    assert (await ask(app, format="opus", opus_bitrate=-1000)).status_code == 200


async def test_what_has_no_effect_is_said(app: HttpApp):
    ignored = (await ask(app)).headers["x-ignored-fields"]
    assert ignored == "chunk_length, max_new_tokens, repetition_penalty"


REFUSED = [
    ({"text": None}, 400, "text"),
    ({"text": "  "}, 422, "text"),
    ({"text": 3}, 400, "text"),
    ({"format": "ogg"}, 400, "format"),
    ({"normalize": False}, 400, "normalize"),
    ({"prosody": {"volume": 6}}, 400, "prosody.volume"),
    ({"prosody": {"speed": 9}}, 400, "prosody.speed"),
    ({"mp3_bitrate": 96}, 400, "mp3_bitrate"),
    ({"sample_rate": 4_000}, 400, "sample_rate"),
    ({"sample_rate": 44_100, "format": "opus"}, 400, "sample_rate"),
    ({"temperature": 3}, 400, "temperature"),
    ({"reference_id": "nobody"}, 404, "reference_id"),
    ({"reference_id": 7}, 400, "reference_id"),
    ({"references": [{"audio": ENCODED, "text": ""}]}, 400, "references.0.text"),
    ({"references": [{"audio": "!", "text": "x"}]}, 400, "references.0.audio"),
    ({"references": [{"audio": ENCODED, "text": "x"}] * 2}, 400, "references"),
    ({"references": [{"audio": base64.b64encode(b"RIFF").decode(), "text": "x"}]}, 415,
     "references.0.audio"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "status", "param"), REFUSED, ids=[r[2] for r in REFUSED])
async def test_refusals_name_their_field(
    app: HttpApp, fields: dict[str, Any], status: int, param: str
):
    reply = await ask(app, **fields)
    assert (reply.status_code, error_of(reply)["param"]) == (status, param), reply.text


BAD = [
    b"", b" ", b"\x81", b"\x81\xa4text", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x82\x01\x02\x03\x04",
    b"\x81\xa4text\xa2\xff\xfe", b"\x81\xa4text\xc7\x01\x05x", b"\x91\xa4text",
    b"\x81\xa4text\xa1xx", b"\x91" * 5_000, b"Hello.", CLIP,
]  # fmt: skip


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("label", [MSGPACK, None, JSON])
async def test_bodies_that_are_none_are_400(app: HttpApp, content: bytes, label: str | None):
    reply = await app.post(content, label, "/v1/tts")
    assert reply.status_code == 400, reply.text
    error_of(reply)
