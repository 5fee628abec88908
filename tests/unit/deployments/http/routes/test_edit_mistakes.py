"""What cannot be edited is refused, with the caller's field, before anything is made."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.http_app import CLIP, SAID, HttpApp, error_of
from tests.unit.deployments.http.routes.edit_app import (
    AUDIO,
    CHAIN,
    CLONE,
    DENOISE,
    EDITS,
    HAPPY,
    LAUGH,
    LAUGHS,
    LONG_AUDIO,
    LONG_WORDS,
    SAYS,
    answers,
    edit,
    editing,
    refused,
)

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with editing(tmp_path) as made:
        yield made


LARGE = [{"written": f"w{n}", "said": "字" * 480, "regex": True} for n in range(44)]  # 128 kB
TALE = "𠮷" * 3_900  # 48 kB as it is written down


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"voice": "bruno", "steps": [SAYS, LAUGHS], "pronunciation": LARGE}, "pronunciation"),
        ({"voice": "bruno", **SAYS, "pronunciation": LARGE * 2}, "pronunciation"),
        (
            {
                "audio": AUDIO,
                "transcript": SAID,
                "steps": [{**CLONE, "text": TALE}, *[{**LAUGH, "text": f"{TALE}[Laughter]"}] * 7],
            },
            "steps",
        ),
    ],
)
async def test_what_cannot_be_written_down_is_refused_before_anything_is_made(
    app: HttpApp, fields: dict[str, Any], param: str
) -> None:
    error = await refused(app, **fields)
    assert error["param"] == param
    assert "bytes" in error["message"]


async def test_what_is_not_written_down_may_be_any_size(app: HttpApp) -> None:
    reply = await edit(app, voice="bruno", **SAYS, pronunciation=LARGE * 2, cache="off")
    assert "x-edit-id" not in reply.headers


async def test_an_edit_grows_no_further_than_can_be_written_down(app: HttpApp) -> None:
    first = await edit(app, voice="bruno", **SAYS, pronunciation=LARGE)
    origin = {"from": first.headers["x-edit-id"]}
    error = await refused(app, **origin, **LAUGHS, pronunciation=LARGE)
    assert error["param"] == "pronunciation"
    longer = await edit(app, **origin, **LAUGHS)
    assert longer.headers["x-edit-id"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"steps": CHAIN[1:]}, "audio", "emotion edits something"),
        ({"voice": "bruno"}, "steps", "a list of steps"),
        ({"voice": "bruno", "steps": []}, "steps", "at least one"),
        ({"voice": "bruno", "steps": [HAPPY] * 9}, "steps", "at most 8"),
        ({"voice": "bruno", "steps": "happy"}, "steps", "list"),
        ({"voice": "bruno", "steps": [HAPPY, {"type": "shout"}]}, "steps.1.type", "'emotion'"),
        ({"voice": "bruno", "steps": [HAPPY, {"value": "sad"}]}, "steps.1.type", "required"),
        ({"voice": "bruno", "steps": [HAPPY, {**DENOISE, "volume": 1}]}, "steps.1.volume",
         "allowed: value, text, intensity, type, seed"),
        ({"voice": "bruno", "steps": CHAIN, "tempo": 2}, "tempo", "allowed: "),
        ({"voice": "bruno", "steps": CHAIN, "type": "vad"}, "type", "with steps"),
        ({"voice": "bruno", "steps": CHAIN, "text": "Hi."}, "text", "with steps"),
        ({"voice": "bruno", "steps": [{**HAPPY, "value": "glad"}]}, "steps.0.value",
         "allowed: happy, angry"),
        ({"voice": "bruno", "steps": [{"type": "emotion"}]}, "steps.0.value", "allowed: happy"),
        ({"voice": "bruno", **DENOISE, "value": "loud"}, "value", "leave it out"),
        ({"voice": "bruno", "steps": [{**HAPPY, "intensity": 2.5}]}, "steps.0.intensity",
         "1 to 4, whole"),
        ({"voice": "bruno", "steps": [{**HAPPY, "intensity": 5}]}, "steps.0.intensity", "1 to 4"),
        ({"voice": "bruno", "steps": [{**HAPPY, "intensity": 0.1}]}, "steps.0.intensity", "1 to 4"),
        ({"voice": "bruno", "steps": [{**CLONE, "intensity": 2}]}, "steps.0.intensity",
         "clone has none"),
        ({"voice": "bruno", "steps": [HAPPY, {**LAUGH, "intensity": 2}]}, "steps.1.intensity",
         "denoise, emotion, speed, style, vad"),
        ({"voice": "bruno", "steps": [{"type": "paralinguistic", "text": "Hi."}]}, "steps.0.text",
         "no tag; allowed: [Breathing]"),
        ({"voice": "bruno", "steps": [{"type": "paralinguistic", "text": "Hi [Cough]."}]},
         "steps.0.text", "[Cough] is not known; allowed: [Breathing]"),
        ({"voice": "bruno", "steps": [{"type": "paralinguistic"}]}, "steps.0.text", "is required"),
        ({"voice": "bruno", "type": "clone", "text": " "}, "text", "is required"),
        ({"voice": "bruno", "steps": [{**HAPPY, "text": "Hi."}]}, "steps.0.text", "transcript"),
        ({"voice": "bruno", "steps": [HAPPY, CLONE]}, "steps.1.type", "only be the first"),
        ({"voice": "bruno", "audio": AUDIO, **DENOISE}, "audio", "found voice and audio"),
        ({"audio": AUDIO, **HAPPY}, "transcript", "denoise and vad go without"),
        ({"audio": AUDIO, "steps": [DENOISE, HAPPY]}, "transcript", "emotion needs the words"),
        ({"audio": "!", "transcript": "x", **HAPPY}, "audio", "base64"),
        ({"audio": "https://a.example/b.wav", **DENOISE}, "audio", "not fetched"),
        ({"voice": "bruno", **DENOISE, "cache": "never"}, "cache", "refresh"),
        ({"voice": "bruno", **DENOISE, "response_format": "wma"}, "response_format", "'mp3'"),
        ({"voice": "bruno", **DENOISE, "sample_rate": 1}, "sample_rate", "8000 to 48000"),
        ({"voice": "bruno", **DENOISE, "model": "gpt-9"}, "model", "known: "),
        ({"voice": "bruno", **DENOISE, "model_variant": "int4"}, "model_variant", "deployed: base"),
        ({"from": {"edit": "x", "pace": 1}, **DENOISE}, "from.pace", "allowed: edit, step"),
        ({**LONG_AUDIO, "transcript": LONG_WORDS, "steps": [{"type": "clone", "text": "Hi."}]},
         "audio", "longer than"),
        ({**LONG_AUDIO, "transcript": "A few words.", **HAPPY}, "transcript", "not the same words"),
        ({**LONG_AUDIO, "transcript": LONG_WORDS.replace(".", ","), **HAPPY}, "transcript",
         "between 0.0 and 30.0 s"),
        ({"payload": {}}, "payload", "part of forms"),
        ([], "body", "object"),
    ],
)  # fmt: skip
async def test_mistakes_are_named_before_anything_is_made(
    app: HttpApp, body: Any, param: str, words: str
) -> None:
    reply = await app.http.post(EDITS, json=body)
    assert reply.status_code == httpx.codes.BAD_REQUEST, reply.text
    error = error_of(reply)
    assert error["param"] == param, error
    assert words in error["message"]
    assert answers(app) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"voice": "nobody", **DENOISE}, 404, "voice"),
        ({"from": "edit_x", **DENOISE}, 404, "from"),
        ({"voice": "\ud83d", **DENOISE}, 404, "voice"),
        ({"audio": base64.b64encode(b"noise" * 99).decode(), **DENOISE}, 415, "audio"),
        ({"audio": base64.b64encode(CLIP[:9_000]).decode(), **DENOISE}, 422, "audio"),
        ({**LONG_AUDIO, "transcript": LONG_WORDS,
          "steps": [{"type": "paralinguistic", "text": "Other words [Sigh]."}]}, 422,
         "steps.0.text"),
        ({"voice": "bruno", "steps": [{"type": "clone", "text": "x" * 5_000}]}, 422,
         "steps.0.text"),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_says_so(
    app: HttpApp, body: Any, status: int, param: str
) -> None:
    error = await refused(app, status, **body)
    assert error["param"] == param, error


async def test_unknown_edits_and_steps(app: HttpApp) -> None:
    edit_id = (await edit(app, voice="bruno", steps=[HAPPY, DENOISE])).headers["x-edit-id"]
    for unknown in ("edit_x", edit_id[:-1] + "x", "../../voices", edit_id.replace("e", "f")):
        reply = await app.http.get(f"{EDITS}/{unknown.replace('/', '%2F')}")
        assert reply.status_code == httpx.codes.NOT_FOUND
    for step in (0, 3, -1):
        for path in (f"steps/{step}", f"steps/{step}/audio"):
            reply = await app.http.get(f"{EDITS}/{edit_id}/{path}")
            assert reply.status_code == httpx.codes.BAD_REQUEST
            assert "allowed: 1 to 2" in error_of(reply)["message"]
    error = await refused(app, **{"from": {"edit": edit_id, "step": 3}}, **DENOISE)
    assert error["param"] == "from.step"


async def test_a_fault_that_a_stage_finds_names_the_callers_field(app: HttpApp) -> None:
    from pipeline.errors import TextError

    class Refusing:
        async def speak(self, request: Any, voice: Any) -> Any:
            raise TextError("cannot be said", param="input")
            yield

    app.speech._synthesizer = Refusing()  # type: ignore[assignment]
    steps = [HAPPY, LAUGH]
    reply = await app.http.post(EDITS, json={"voice": "bruno", "steps": steps, "seed": 7})
    assert reply.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert error_of(reply)["param"] == "steps.0.text"
