"""Bodies that the predecessor's users have: served, or told what to send instead."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from deployments.config.settings import load_settings
from deployments.http.model_names import ModelNames
from pipeline.contracts import Mode
from pipeline.errors import UnsupportedError
from tests.http_app import CLIP, SAID, HttpApp, error_of

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]
ENCODED = base64.b64encode(CLIP).decode()
URL = "https://example.com/a.wav"
EDITS = [
    ("emotion", "happy"), ("emotion", "Remove"), ("style", "whisper"), ("style", "act coy"),
    ("speed", "faster"), ("speed", "more slower"), ("denoise", None), ("vad", ""),
]  # fmt: skip


def step(**fields: Any) -> dict[str, Any]:
    return {"model": "step-audio-editx", "step_audio": fields}


@pytest.mark.parametrize(("mode", "info"), EDITS)
@pytest.mark.parametrize("text", ["Make this recording so.", "", None])
async def test_an_edit_keeps_the_words_of_its_clip(
    app: HttpApp, mode: str, info: str | None, text: str | None
):
    body = step(mode=mode, edit_info=info, input_audio_base64=ENCODED, audio_text=SAID)
    made = await app.spoken(**body, input=text)
    assert (made.mode, made.text, made.transcript) == (Mode(mode), SAID, SAID)


@pytest.mark.parametrize(("mode", "info"), EDITS)
async def test_an_edit_may_name_a_voice_in_place_of_a_clip(app: HttpApp, mode: str, info: str):
    body = step(mode=mode, edit_info=info, prompt_text="something else")
    made = await app.spoken(**body, voice="bruno", input="I am really afraid.")
    assert (made.mode, made.text, made.transcript) == (Mode(mode), SAID, SAID)


async def test_added_sounds_are_written_into_the_text(app: HttpApp):
    text = "Please [Laughter] add a laugh."
    for source in ({"voice": "bruno"}, step(input_audio_base64=ENCODED, audio_text=SAID)):
        fields = {
            **source,
            "step_audio": {**source.get("step_audio", {}), "mode": "paralinguistic"},
        }
        made = await app.spoken(**fields, input=text)
        assert (made.text, made.transcript) == (text, SAID)


@pytest.mark.parametrize("times", [1, 2, 4, "3"])
async def test_an_edit_may_be_repeated(app: HttpApp, times: Any):
    body = step(mode="emotion", edit_info="happy", n_edit_iter=times)
    assert (await app.spoken(**body, voice="bruno")).iterations == int(times)


async def test_fields_that_change_nothing_are_taken(app: HttpApp):
    body = step(mode="clone", model_variant="base", intensity=1.0, n_edit_iter=1)
    made = await app.spoken(**body, voice="happy_en", stream=False)
    assert (made.mode, made.iterations, made.variant) == (Mode.CLONE, 1, "base")


async def test_metadata_comes_back_in_headers(app: HttpApp):
    metadata = {
        "request_id": "demo-001", "n": 3, "bad\r\nkey": "x", "bad_value": "x\r\nSet-Cookie: a=b",
        "long": "x" * 1000, "nested": {}, "none": None, "emoji": "\N{GRINNING FACE}",
    }  # fmt: skip
    reply = await app.speak(metadata=metadata, voice="aria")
    echoed = {k: v for k, v in reply.headers.items() if k.startswith("x-metadata")}
    assert echoed == {"x-metadata-request-id": "demo-001", "x-metadata-n": "3"}
    many = await app.speak(metadata={f"k{i}": "v" for i in range(1000)}, voice="aria")
    assert sum(k.startswith("x-metadata") for k in many.headers) == 16
    assert (await app.speak(metadata="a word", voice="aria")).status_code == 200


async def test_replies_name_the_model_and_stay_audio(app: HttpApp):
    for stream in (None, True, False):
        body = step(mode="clone", model_variant="Base")
        reply = await app.speak(**body, voice="bruno", stream=stream)
        assert reply.headers["x-stepaudio-model"] == "base"
        assert reply.headers["content-type"] == "audio/wav"
    assert "x-stepaudio-model" not in (await app.speak(voice="bruno")).headers


CLIPPED = {"input_audio_base64": ENCODED, "audio_text": SAID}
REFUSED = [
    ({"mode": "clone", "prompt_audio_base64": ENCODED}, "prompt_text", "step_audio.prompt_text"),
    ({"mode": "denoise", "input_audio_base64": ENCODED}, "audio_text", "step_audio.audio_text"),
    ({"prompt_audio_url": URL}, "prompt_audio_url", "prompt_audio_base64"),
    ({**CLIPPED, "input_audio_base64": None, "input_audio_url": URL, "mode": "vad"},
     "input_audio_url", "/v1/audio/speech/upload"),
    ({**CLIPPED, "mode": "style", "edit_info": "formal"}, "edit_info", "whisper"),
    ({**CLIPPED, "mode": "speed", "edit_info": "0.85x"}, "edit_info", "more faster"),
    ({**CLIPPED, "mode": "emotion"}, "edit_info", "happy"),
    ({**CLIPPED, "mode": "paralinguistic", "edit_info": "story"}, "edit_info", "[Laughter]"),
    ({**CLIPPED, "mode": "vad", "edit_info": "long"}, "edit_info", "leave it out"),
    ({"edit_info": "happy"}, "edit_info", "mode"),
    ({**CLIPPED, "mode": "emotion", "edit_info": "happy", "intensity": 2.3},
     "intensity", "n_edit_iter"),
    ({**CLIPPED, "mode": "speed", "edit_info": "faster", "intensity": 0.1},
     "intensity", "more faster"),
    ({"n_edit_iter": 2}, "n_edit_iter", "send 1"),
    ({**CLIPPED, "mode": "vad", "n_edit_iter": 5}, "n_edit_iter", "4"),
    ({"model_variant": "bnb"}, "model_variant", "deployed: base"),
    ({"mode": "emotion", "edit_info": "happy"}, "prompt_audio_base64", "edits a clip"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "instead"), REFUSED)
async def test_what_cannot_be_done_says_what_can(
    app: HttpApp, fields: dict[str, Any], param: str, instead: str
):
    reply = await app.speak(**step(**fields))
    assert (reply.status_code, error_of(reply)["param"]) == (400, f"step_audio.{param}")
    assert instead in error_of(reply)["message"]


async def test_a_data_uri_is_an_address_that_needs_no_fetching(app: HttpApp):
    body = step(prompt_audio_url=f"data:audio/wav;base64,{ENCODED}", prompt_text=SAID)
    assert (await app.spoken(**body)).transcript == SAID


@pytest.mark.parametrize(
    ("args", "asked", "found"),
    [
        ({}, "base", "base"),
        ({"llm_variants": {"small": {"quantization": "int4"}}}, "bnb", "small"),
        ({"llm_variants": {"a": {"quantization": "int8"}}}, "bnb", "a"),
        (
            {"llm_variants": {"a": {"quantization": "int8"}, "b": {"quantization": "int4"}}},
            "bnb",
            "b",
        ),
        ({"llm_variants": {"small": {"model": "step-audio-editx-awq"}}}, "awq", "small"),
        ({"llm_variants": {"bnb": {"quantization": "int8"}}}, "bnb", "bnb"),
        ({"llm": {"quantization": "int4"}}, "awq", "base"),
        ({"llm_variants": {"a": {"quantization": "int8"}}}, "awq", None),
        ({}, "awq", None),
        ({}, "int4", None),
    ],
)
async def test_its_variants_are_what_is_deployed(args: dict, asked: str, found: str | None):
    names = ModelNames(load_settings(args))
    if found is not None:
        assert names.variant(asked) == found
        return
    with pytest.raises(UnsupportedError, match="deployed: base"):
        names.variant(asked)
