"""Audio longer than a clip is edited in parts, with tags in their places."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from pipeline.contracts import Mode
from tests.http_app import SAID, HttpApp
from tests.unit.deployments.http.routes.edit_app import (
    DENOISE,
    EDITS,
    HAPPY,
    VOICES,
    answers,
    edit,
    editing,
    long_clip,
    refused,
    step_of,
    stored,
)

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with editing(tmp_path) as made:
        yield made


@pytest.mark.slow
async def test_long_audio_is_edited_in_parts_with_tags_in_their_places(app: HttpApp) -> None:
    clip, words = long_clip([*VOICES])
    marked = words.replace("needs a beginning", "needs [Uhm] a beginning") + " [Sigh]"
    steps = [HAPPY, {"type": "paralinguistic", "text": marked}, DENOISE]
    audio = base64.b64encode(clip).decode()
    reply = await edit(app, audio=audio, transcript=words, steps=steps)
    made = app.speaker.requests  # type: ignore[attr-defined]
    speakers = app.speaker.speakers  # type: ignore[attr-defined]
    clips = list(dict.fromkeys(speakers))
    assert len(clips) == 2
    for mode in (Mode.EMOTION, Mode.PARALINGUISTIC, Mode.DENOISE):
        parts = [
            (request, clip)
            for request, clip in zip(made, speakers, strict=True)
            if request.mode is mode
        ]
        assert [clip for _, clip in parts] == clips
        said = [request.transcript for request, _ in parts]
        assert " ".join(said) == (marked if mode is Mode.DENOISE else words)
    tagged = [request.text for request in made if request.mode is Mode.PARALINGUISTIC]
    assert " ".join(tagged) == marked
    assert tagged[1].endswith("[Sigh]")
    edit_id = reply.headers["x-edit-id"]
    listed = (await app.http.get(f"{EDITS}/{edit_id}")).json()
    assert [source["clip"] for source in listed["sources"]] == clips
    facts = await step_of(app, edit_id, 3)
    assert len(reply.content) == 44 + 2 * round(24_000 * facts["audio_s"])
    before = answers(app)
    again = await edit(app, audio=audio, transcript=words, steps=steps)
    heard = await app.http.get(f"{EDITS}/{edit_id}/steps/3/audio?response_format=wav")
    assert again.content == heard.content == reply.content
    assert answers(app) == before
    await app.forget(clips[1], app.voices.namespace)  # any of its clips takes it along
    assert (await app.http.get(f"{EDITS}/{edit_id}")).status_code == httpx.codes.NOT_FOUND
    assert not stored(app, "edit_*")


@pytest.mark.slow
async def test_long_audio_without_words_is_cut_at_any_pause(app: HttpApp) -> None:
    clip, _ = long_clip([*VOICES])
    audio = base64.b64encode(clip).decode()
    await edit(app, audio=audio, **DENOISE)
    assert len(app.speaker.requests) == 2  # type: ignore[attr-defined]
    error = await refused(app, audio=audio, **HAPPY)
    assert error["param"] == "transcript"


async def test_words_that_no_step_needs_stop_no_edit(app: HttpApp) -> None:
    clip, _ = long_clip([*VOICES])
    audio = base64.b64encode(clip).decode()
    reply = await edit(app, audio=audio, transcript="Other words.", **DENOISE)
    made = app.speaker.requests  # type: ignore[attr-defined]
    assert [request.transcript for request in made] == ["", ""]
    error = await refused(app, **{"from": reply.headers["x-edit-id"]}, **HAPPY)
    assert (error["param"], "send the audio again" in error["message"]) == ("from", True)


async def test_a_long_clone_is_edited_in_parts(app: HttpApp) -> None:
    text = " ".join(f"{SAID[:-1]} on day {day}." for day in ("one", "two", "three", "four", "five"))
    await edit(app, voice="bruno", steps=[{"type": "clone", "text": text}, HAPPY, DENOISE])
    made = app.speaker.requests  # type: ignore[attr-defined]
    spoken = [request.text for request in made if request.mode is Mode.CLONE]
    assert len(spoken) == 2
    assert " ".join(spoken) == text
    assert [r.transcript for r in made if r.mode is Mode.EMOTION] == spoken
