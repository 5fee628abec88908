"""Every dialect's call is served by the real routes, and heard to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvicorn

from load_tests.load.answers import Answer
from load_tests.load.asks import ask_of
from load_tests.load.clients import Clients, Clock
from load_tests.load.material.clips import clip_of
from load_tests.load.outcomes import whole_stages
from load_tests.load.workload import NAMED_VOICES_ONLY, NO_TELEPHONE, Dialect
from tests.cache_helpers import free_port
from tests.http_app import HttpApp
from tests.unit.load_tests.load.servers import call
from tests.waiting import until

pytestmark = pytest.mark.unit
DIALECTS: tuple[Dialect, ...] = ("openai", "predecessor", "elevenlabs", "fish", "websocket")
SPOKEN_S = 0.24  # two groups of the fake's


@pytest_asyncio.fixture
async def app() -> AsyncIterator[tuple[HttpApp, str]]:
    made, port = HttpApp(), free_port()
    server = uvicorn.Server(
        uvicorn.Config(made.app, port=port, log_config=None, ws="websockets-sansio", lifespan="off")
    )
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield made, f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def spoken(url: str, **fields: Any) -> Answer:
    one = call(text="Hello there.", **fields)
    async with Clients(url, clock := Clock(), 20.0) as clients:
        return await clients.speak(one, ask_of(one, 3), clock.now_s())


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_listed_voice_speaks(app: tuple[HttpApp, str], dialect: Dialect) -> None:
    made, url = app
    answer = await spoken(url, dialect=dialect, voice="bruno", seed=11)
    assert answer.outcome == "ok", answer.fault
    assert answer.audio_s == pytest.approx(SPOKEN_S)
    (asked,) = made.synthesizer.requests
    assert asked.text == "Hello there."
    assert asked.sampling.seed == 11
    if dialect != "websocket":  # whose headers come before the voice is known
        assert answer.voice_hit is False
        assert answer.stages_s.keys() >= {"tokenizer", "llm", "vocoder", "ttfa"}


@pytest.mark.parametrize("dialect", [one for one in DIALECTS if one not in NAMED_VOICES_ONLY])
async def test_a_clip_speaks(app: tuple[HttpApp, str], dialect: Dialect) -> None:
    made, url = app
    answers = [await spoken(url, dialect=dialect, voice="", clip=clip) for clip in (0, 0, 8)]
    assert [answer.outcome for answer in answers] == ["ok"] * 3, [one.fault for one in answers]
    first, again, other = made.synthesizer.speakers
    assert first == again != other, "the same clip, and one that differs by its noise alone"


@pytest.mark.parametrize("dialect", [one for one in DIALECTS if one not in NO_TELEPHONE])
async def test_telephones_hear(app: tuple[HttpApp, str], dialect: Dialect) -> None:
    _, url = app
    answer = await spoken(url, dialect=dialect, format="pcmu")
    assert answer.outcome == "ok", answer.fault
    assert answer.audio_s == pytest.approx(SPOKEN_S, abs=0.01)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_unknown_voice_is_a_failure_of_a_kind(
    app: tuple[HttpApp, str], dialect: Dialect
) -> None:
    _, url = app
    answer = await spoken(url, dialect=dialect, voice="nobody")
    assert answer.outcome == "failed"
    assert "unknown_voice" in answer.fault


async def test_whole_stage_times_are_asked_for_afterwards(app: tuple[HttpApp, str]) -> None:
    _, url = app
    answer = await spoken(url, dialect="openai")
    (told,) = await whole_stages(url, [answer])
    assert told["number"] == answer.number
    assert told["audio_s"] == pytest.approx(SPOKEN_S)
    assert told["total_s"] > 0


def test_clips_are_the_same_with_a_nonce_and_others_with_another() -> None:
    assert clip_of(2, 5).wav == clip_of(2, 5).wav
    assert len({clip_of(2, 5).wav, clip_of(2, 6).wav, clip_of(10, 5).wav}) == 3
    assert clip_of(2, 5).words == clip_of(10, 6).words
