"""Finished speech over HTTP: who asks for it, what the headers say, and equal bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from deployments.speech.library import SpeechLibrary
from tests.fakes import FakeNames, TellingSpeaker
from tests.http_app import HttpApp, error_of, http_app
from tests.waiting import until

pytestmark = pytest.mark.unit


@asynccontextmanager
async def reusing(**args: Any) -> AsyncIterator[HttpApp]:
    """The application, whose speaker says what it drew."""
    async with http_app(**args) as app:
        names = FakeNames()
        synthesizer = TellingSpeaker(names)
        app.speech._synthesizer, app.speech._models._namer = synthesizer, names
        app.synthesizer = synthesizer  # type: ignore[assignment]
        yield app


async def settled(speech: SpeechLibrary) -> None:
    await until(lambda: not speech._live)


async def spoken(app: HttpApp, **fields: Any) -> httpx.Response:
    reply = await app.speak(**fields)
    assert reply.status_code == httpx.codes.OK, reply.text
    await settled(app.speech)
    return reply


@pytest.mark.slow
@pytest.mark.parametrize("audio_format", ["wav", "pcm", "mp3", "opus", "aac", "flac"])
async def test_kept_speech_has_the_bytes_that_were_made(audio_format: str) -> None:
    async with reusing() as app:
        made = await spoken(app, response_format=audio_format)
        kept = await spoken(app, response_format=audio_format)
        alone = await spoken(app, response_format=audio_format, cache="off")
    assert made.content == kept.content == alone.content
    headers = [reply.headers["x-cache"] for reply in (made, kept, alone)]
    assert headers == ["miss", "speech-l1, l1", "l1"]
    assert len(app.synthesizer.requests) == 2
    assert kept.headers["x-quality"] == made.headers["x-quality"] == "ok"


async def test_speed_and_format_come_behind_it() -> None:
    async with reusing() as app:
        await spoken(app)
        faster = await spoken(app, speed=1.5, response_format="flac")
        assert faster.headers["x-cache"] == "speech-l1, l1"
        own = await spoken(app, speed=1.5, response_format="flac", cache="off")
    assert faster.content == own.content


async def test_events_tell_what_answered() -> None:
    async with reusing() as app:
        await spoken(app)
        events = (await spoken(app, stream_format="sse")).text
    assert '"speech": "l1"' in events


async def test_a_request_without_a_seed_is_not_answered_from_it() -> None:
    async with reusing() as app:
        for _ in range(2):
            reply = await spoken(app, seed=None)
            assert not reply.headers["x-cache"].startswith("speech")


async def test_a_deployment_may_have_seeds_follow_from_requests() -> None:
    async with reusing(speech_cache={"unseeded": "derive"}) as app:
        first, second = [await spoken(app, seed=None) for _ in range(2)]
    assert second.headers["x-cache"] == "speech-l1, l1"
    assert first.content == second.content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/audio/speech", {"input": "Hello."}),
        ("/v1/tts", {"text": "Hello."}),
        ("/v1/text-to-speech/aria", {"text": "Hello."}),
        ("/v1/text-to-speech/aria/stream", {"text": "Hello."}),
    ],
)
async def test_every_dialect_with_a_seed_may_say_so(path: str, fields: dict[str, Any]) -> None:
    async with reusing() as app:
        told = list[str]()
        for wish in ("reuse", None, "refresh", "off"):
            reply = await app.http.post(path, json={**fields, "seed": 7, "cache": wish})
            assert reply.status_code == httpx.codes.OK, reply.text
            await settled(app.speech)
            told.append(reply.headers["x-cache"])
        assert told == ["miss", "speech-l1, l1", "l1", "l1"]
        assert len(app.synthesizer.requests) == 3
        reply = await app.http.post(path, json={**fields, "cache": "never"})
        assert error_of(reply)["param"] == "cache"


async def test_how_kept_speech_ended_is_told_as_of_what_was_made() -> None:
    async with reusing() as app:
        replies = [await spoken(app) for _ in range(2)]
        ids = [reply.headers["x-request-id"] for reply in replies]
        made, kept = [(await app.http.get(f"/v1/audio/speech/{one}")).json() for one in ids]
    assert made["usage"] == kept["usage"] == {
        "input_tokens": 7, "output_tokens": 15, "total_tokens": 22,
    }  # fmt: skip
    assert (made["timbre"]["speech"], kept["timbre"]["speech"]) == ("none", "l1")


async def test_a_short_wav_has_its_length_made_or_kept() -> None:
    async with reusing() as app:
        app.synthesizer.n_chunks = 1  # type: ignore[attr-defined]
        made, kept, alone = [await spoken(app, cache=wish) for wish in (None, None, "off")]
    assert made.content == kept.content == alone.content
    assert int.from_bytes(made.content[4:8], "little") == len(made.content) - 8


async def test_a_wish_that_is_none_is_refused_with_those_there_are() -> None:
    async with http_app() as app:
        reply = await app.speak(cache="never")
        assert reply.status_code == httpx.codes.BAD_REQUEST
        error = error_of(reply)
        assert error["param"] == "cache"
        assert "'refresh'" in error["message"]


async def test_the_state_of_both_caches_is_told() -> None:
    async with reusing() as app:
        await spoken(app)
        state = (await app.http.get("/v1/cache")).json()
    assert state["speech"]["computes"] == 1
    assert state["computes"] == 1
