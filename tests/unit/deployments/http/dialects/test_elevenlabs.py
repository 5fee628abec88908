"""What ElevenLabs' clients send and read."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pipeline.audio.encode import wav_header
from tests.fakes import SAMPLES_PER_GROUP
from tests.http_app import SAID, HttpApp, error_of

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]
KEY = {"xi-api-key": "unused"}
BODY = {
    "text": "Grüß Gott.", "model_id": "eleven_multilingual_v2",
    "voice_settings": {"stability": 0.5, "similarity_boost": 0.75, "style": 0.0,
                       "use_speaker_boost": True, "speed": 1.25},
}  # fmt: skip


async def ask(
    app: HttpApp, voice: str = "bruno", *, stream: bool = False, **fields: Any
) -> httpx.Response:
    query = {name: fields.pop(name) for name in ("output_format",) if name in fields}
    path = f"/v1/text-to-speech/{voice}" + ("/stream" if stream else "")
    return await app.http.post(path, json={**BODY, **fields}, params=query, headers=KEY)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("voice", ["bruno", "Bruno", "alloy"])
async def test_a_text_is_spoken(app: HttpApp, voice: str, stream: bool):
    reply = await ask(app, voice, stream=stream)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "audio/mpeg"
    assert reply.headers["x-audio-sample-rate"] == "44100"
    assert ("content-length" in reply.headers) is not stream
    made = app.synthesizer.requests[-1]
    assert (made.text, made.speed) == ("Grüß Gott.", 1.25)
    assert voice == "alloy" or made.transcript == SAID


FORMATS = [
    ("mp3_22050_32", "audio/mpeg", 22_050), ("mp3_24000_48", "audio/mpeg", 24_000),
    ("mp3_44100_192", "audio/mpeg", 44_100), ("pcm_16000", "audio/pcm", 16_000),
    ("pcm_8000", "audio/pcm", 8_000), ("pcm_44100", "audio/pcm", 44_100),
    ("wav_22050", "audio/wav", 22_050), ("ulaw_8000", "audio/pcmu", 8_000),
    ("alaw_8000", "audio/pcma", 8_000), ("opus_48000_32", "audio/ogg", 48_000),
    (" PCM_24000 ", "audio/pcm", 24_000),
]  # fmt: skip


@pytest.mark.parametrize(("output_format", "media_type", "rate_hz"), FORMATS)
async def test_every_output_format_is_the_same_whole_and_streamed(
    app: HttpApp, output_format: str, media_type: str, rate_hz: int
):
    plain = {"voice_settings": None, "output_format": output_format}
    whole, streamed = await ask(app, **plain), await ask(app, stream=True, **plain)
    assert whole.status_code == 200, whole.text
    assert whole.headers["content-type"] == media_type
    assert whole.headers["x-audio-sample-rate"] == str(rate_hz)
    n_samples = round(2 * SAMPLES_PER_GROUP * rate_hz / 24_000)
    if media_type == "audio/wav":
        assert whole.content[:44] == wav_header(rate_hz, n_samples=n_samples)
        assert whole.content[44:] == streamed.content[44:]
        return
    assert whole.content == streamed.content
    sizes = {"audio/pcm": 2 * n_samples, "audio/pcmu": n_samples, "audio/pcma": n_samples}
    assert len(whole.content) == sizes.get(media_type, len(whole.content))


@pytest.mark.parametrize(
    "output_format",
    ["mp3", "mp3_44100", "pcm_16000_128", "pcm_4000", "mp3_20000_64", "opus_44100_64", "gsm_8000",
     "mp3_44100_999", "mp3_44100_0", "pcm_999999", "x" * 500, "pcm_16000\n1"],
)  # fmt: skip
async def test_others_are_refused(app: HttpApp, output_format: str):
    reply = await ask(app, output_format=output_format)
    if output_format == "mp3_44100":  # a rate alone leaves the bit rate to us
        assert reply.status_code == 200
        return
    assert (reply.status_code, error_of(reply)["param"]) == (400, "output_format")
    assert len(error_of(reply)["message"]) < 400


async def test_settings_without_effect_are_said(app: HttpApp):
    ignored = (await ask(app, previous_text="Before.")).headers["x-ignored-fields"]
    assert ignored.split(", ") == [
        "voice_settings.stability", "voice_settings.similarity_boost", "voice_settings.style",
        "voice_settings.use_speaker_boost", "previous_text",
    ]  # fmt: skip
    assert "x-ignored-fields" not in (await ask(app, voice_settings={"speed": 1})).headers


REFUSED = [
    ({"text": None}, 400, "text"),
    ({"text": ""}, 422, "text"),
    ({"voice": "nobody"}, 404, "voice_id"),
    ({"model_id": "gpt-9"}, 400, "model_id"),
    ({"voice_settings": {"speed": 9}}, 400, "voice_settings.speed"),
    ({"seed": -3}, 400, "seed"),
    ({"apply_text_normalization": "never"}, 400, "apply_text_normalization"),
    (
        {"pronunciation_dictionary_locators": [{}]},
        400,
        "pronunciation_dictionary_locators.0.pronunciation_dictionary_id",
    ),
    ({"audio_effects": {"environment_id": "hall"}}, 400, "audio_effects"),
]


@pytest.mark.parametrize(("fields", "status", "param"), REFUSED, ids=[r[2] for r in REFUSED])
async def test_refusals_name_their_field(
    app: HttpApp, fields: dict[str, Any], status: int, param: str
):
    reply = await ask(app, **fields)
    assert (reply.status_code, error_of(reply)["param"]) == (status, param), reply.text


@pytest.mark.parametrize(
    "fields",
    [{"model_id": None}, {"model_id": "tts-1"}, {"model_id": "eleven_flash_v2_5"}, {"seed": 4},
     {"apply_text_normalization": "auto"}, {"pronunciation_dictionary_locators": []},
     {"language_code": "en"}],
)  # fmt: skip
async def test_what_can_be_served_is(app: HttpApp, fields: dict[str, Any]):
    assert (await ask(app, **fields)).status_code == 200


@pytest.mark.parametrize("content", [b"", b"text=x", b"\x81\xa4text\xa1x", b"[]", b"{"])
async def test_bodies_that_are_none_are_400(app: HttpApp, content: bytes):
    reply = await app.post(content, None, "/v1/text-to-speech/bruno")
    assert (reply.status_code, error_of(reply)["param"]) == (400, "body")


async def test_voices_are_listed_as_they_read_them(app: HttpApp):
    for path in ("/v1/voices", "/v2/voices"):
        voices = (await app.http.get(path, headers=KEY)).json()["voices"]
        assert {"voice_id", "name", "category", "labels"} <= set(voices[0])
        assert "bruno" in {voice["voice_id"] for voice in voices}
    page = (await app.http.get("/v2/voices", params={"search": "BRU"})).json()
    assert [voice["name"] for voice in page["voices"]] == ["bruno"]
    assert (page["has_more"], page["total_count"]) == (False, 1)


async def test_one_voice_is_found_by_any_of_its_names(app: HttpApp):
    for name in ("bruno", "Onyx"):
        assert (await app.http.get(f"/v1/voices/{name}")).json()["voice_id"] == "bruno"
    reply = await app.http.get("/v1/voices/nobody")
    assert (reply.status_code, error_of(reply)["param"]) == (404, "voice_id")


async def test_models_are_listed_as_they_read_them_for_their_key_alone(app: HttpApp):
    models = (await app.http.get("/v1/models", headers=KEY)).json()
    assert models[0]["model_id"] == "tiny"
    assert all(model["can_do_text_to_speech"] for model in models)
    assert (await app.http.get("/v1/models")).json()["object"] == "list"
