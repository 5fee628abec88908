"""How the texts of edits are read: pronunciations, dictionaries; and the same when made again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.http_app import SAID, HttpApp
from tests.unit.deployments.http.routes.edit_app import (
    AUDIO,
    DENOISE,
    EDITS,
    HAPPY,
    LAUGHS,
    SAYS,
    edit,
    editing,
    refused,
)

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with editing(tmp_path) as made:
        yield made


PRONUNCIATIONS = "/v1/audio/pronunciations"
SEQUEL = {"written": "SQL", "said": "sequel"}


def read_so(app: HttpApp) -> list[tuple[str, bool, list[str]]]:
    """How the speaker was asked to read, request by request."""
    return [
        (
            str(one.mode),
            one.reading.is_normalised,
            [rule.said for rule in one.reading.pronunciations],
        )
        for one in app.speaker.requests  # type: ignore[attr-defined]
    ]


async def dictionary(app: HttpApp, **how: Any) -> str:
    body = {"name": "terms", "entries": [SEQUEL], **how}
    reply = await app.http.post(PRONUNCIATIONS, json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.json()["id"]


async def test_texts_of_steps_are_read_as_the_body_says(app: HttpApp) -> None:
    made = await dictionary(app)
    steps = [SAYS, HAPPY, LAUGHS]
    await edit(app, voice="bruno", steps=steps, pronunciation_dictionary=made, normalize=False)
    assert read_so(app) == [
        ("clone", False, ["sequel"]),
        ("emotion", True, []),
        ("paralinguistic", False, ["sequel"]),
    ]
    app.speaker.requests.clear()  # type: ignore[attr-defined]
    await edit(app, voice="bruno", seed=8, pronunciation=[SEQUEL], **SAYS)
    assert read_so(app) == [("clone", True, ["sequel"])]
    app.speaker.requests.clear()  # type: ignore[attr-defined]
    form = {"voice": "bruno", "seed": "9", **SAYS, "pronunciation": json.dumps([SEQUEL]),
            "pronunciation_dictionary": json.dumps([made])}  # fmt: skip
    reply = await app.http.post(EDITS, data=form)
    assert reply.status_code == httpx.codes.OK, reply.text
    assert read_so(app)[0][2] == ["sequel", "sequel"]


async def test_a_step_is_read_again_as_it_was(tmp_path: Path) -> None:
    """Also where nothing of its speech is kept, and the dictionary says something else by then."""
    async with editing(tmp_path) as app:
        made = await dictionary(app, scope="tenant")
        first = await edit(app, voice="bruno", steps=[SAYS, LAUGHS])
        edit_id, before = first.headers["x-edit-id"], first.content
        whole = read_so(app)
        changed = {"entries": [{"written": "SQL", "said": "squirrel"}]}
        await app.http.post(f"{PRONUNCIATIONS}/{made}", json=changed)
    for record in (tmp_path / "speech").rglob("*"):
        if record.is_file():
            record.unlink()
    async with editing(tmp_path) as again:
        reply = await again.http.get(f"{EDITS}/{edit_id}/steps/2/audio?response_format=wav")
        assert reply.status_code == httpx.codes.OK, reply.text
        assert read_so(again) == whole
        assert reply.content == before
        again.speaker.requests.clear()  # type: ignore[attr-defined]
        await edit(again, **{"from": edit_id}, steps=[{**LAUGHS, "text": "SQL [Laughter] 5."}])
        assert read_so(again)[-1] == ("paralinguistic", True, ["squirrel"])


async def test_an_edit_that_is_continued_is_read_as_its_voice_is(app: HttpApp) -> None:
    for voice in ("aria", "bruno"):
        entries = [{"written": "SQL", "said": voice}]
        await dictionary(app, scope="voice", voice=voice, entries=entries)
    step = {"type": "paralinguistic", "text": "SQL [Laughter]"}
    for seed, voice in ((1, "bruno"), (2, "aria")):
        made = await edit(app, voice=voice, seed=seed, steps=[SAYS])
        await edit(app, seed=seed, steps=[step], **{"from": made.headers["x-edit-id"]})
        assert read_so(app)[-1] == ("paralinguistic", True, [voice])
    sent = await edit(app, audio=AUDIO, transcript=SAID, steps=[DENOISE])
    await edit(app, steps=[step], **{"from": sent.headers["x-edit-id"]})
    assert read_so(app)[-1] == ("paralinguistic", True, [])
    assert (await refused(app, 404, steps=[step], **{"from": "edit_none"}))["param"] == "from"


@pytest.mark.parametrize(
    ("fields", "param", "status"),
    [
        ({"pronunciation": [{"written": "("}]}, "pronunciation.0.said", 400),
        ({"pronunciation": [{**SEQUEL, "written": "(", "regex": True}]}, "pronunciation.0", 400),
        ({"pronunciation": [{**SEQUEL, "regexp": True}]}, "pronunciation.0.regexp", 400),
        ({"pronunciation_dictionary": ["pron_none"]}, "pronunciation_dictionary", 404),
        ({"pronunciations": [SEQUEL]}, "pronunciations", 400),
    ],
)
async def test_a_mistake_about_how_it_is_read_is_named(
    app: HttpApp, fields: dict[str, Any], param: str, status: int
) -> None:
    error = await refused(app, status, voice="bruno", steps=[SAYS], **fields)
    assert error["param"] == param
