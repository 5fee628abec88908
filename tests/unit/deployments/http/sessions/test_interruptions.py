"""Sessions that are interrupted, left and mistaken at random: what begins has one end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from deployments.http.sessions.speaker import Speaker
from tests.http_app import HttpApp, http_app
from tests.talk import GIVE_UP_S, Talk, talk
from tests.waiting import until

pytestmark = pytest.mark.unit
N_SESSIONS, N_STEPS = 40, 25
PIECES = ("Hello the", "re. ", "How are", " you? ", "One, two, three; ", "Fine. I", "。你好。", "…")


@pytest.mark.slow
async def test_what_begins_has_one_end_and_nothing_is_held() -> None:
    dice = random.Random(16)  # noqa: S311 - chance, not secrets
    async with http_app(is_telling=True, sessions={"max_mistakes": 1_000}) as app:
        speaker: Any = app.speaker
        speaker.step = asyncio.Semaphore(0)
        pacing = asyncio.create_task(_pace(speaker.step, dice))
        for _ in range(N_SESSIONS):
            async with talk(app.app) as one:
                is_left = await _at_random(one, dice)
                told = [] if is_left else await _closed(one)
            assert speaker.open_streams == 0
            assert app.routes.budget.held_bytes == 0
            if not is_left:
                _check(told)
        pacing.cancel()
        _check_nothing_runs(app)


async def test_an_interruption_at_any_moment_frees_what_speaks() -> None:
    """Of one sentence: before its first chunk, between its chunks, after its last."""
    async with http_app(is_telling=True) as app:
        speaker: Any = app.speaker
        for n_chunks in range(4):
            speaker.step = asyncio.Semaphore(n_chunks)
            async with talk(app.app) as one:
                one.configure(seed=n_chunks)
                one.say("input.text", text="Hello there.")
                one.say("input.done")
                await until(lambda: len(speaker.requests) > n_chunks)  # noqa: B023 - called here
                for _ in range(n_chunks):
                    while not isinstance(await one.next(), bytes):
                        pass
                one.say("input.cancel", played_ms=0)
                await one.until("input.cancelled")
                await until(lambda: speaker.open_streams == 0)


async def _pace(step: asyncio.Semaphore, dice: random.Random) -> None:
    while True:
        await asyncio.sleep(dice.uniform(0, 0.002))
        step.release()


async def _at_random(one: Talk, dice: random.Random) -> bool:
    """Whether the client went away without a word."""
    for _ in range(N_STEPS):
        act = dice.choices(("text", "done", "cancel", "config", "nonsense"), (8, 3, 2, 1, 1))[0]
        if act == "text":
            one.say("input.text", text=dice.choice(PIECES))
        elif act == "done":
            one.say("input.done")
        elif act == "cancel":
            one.say("input.cancel", played_ms=dice.randrange(2_000))
        elif act == "config":
            one.configure(split_granularity=dice.choice(("none", "sentence", "clause")))
        else:
            one.send("?")
        await asyncio.sleep(dice.choice((0, 0, 0.001, 0.005)))
    is_left = dice.random() < 0.3
    if not is_left:
        one.say("input.done")
        one.say("session.close")
    return is_left


async def _closed(one: Talk) -> list[Any]:
    told: list[Any] = []
    async with asyncio.timeout(GIVE_UP_S):
        while not isinstance(message := await one.next(), int):
            told.append(message)
    return told


def _check(told: list[Any]) -> None:
    """Starts and ends are paired and in order; audio lies between them."""
    sounding: tuple[int, int] | None = None
    ends: Counter[int] = Counter()
    begun: set[int] = set()
    for one in told:
        if isinstance(one, bytes):
            assert sounding is not None
        elif one["type"] == "audio.start":
            assert sounding is None
            sounding = one["utterance_index"], one["sentence_index"]
            begun.add(one["utterance_index"])
            assert not ends[one["utterance_index"]]
        elif one["type"] == "audio.done":
            assert sounding == (one["utterance_index"], one["sentence_index"])
            sounding = None
        elif one["type"] == "session.done":
            ends[one["utterance_index"]] += 1
    assert sounding is None
    assert set(ends.values()) <= {1}
    assert begun <= set(ends)
    assert list(ends) == list(range(len(ends)))


def _check_nothing_runs(app: HttpApp) -> None:
    load = app.routes._metrics._streams.load
    assert (load.running, load.waiting) == (0, 0)
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    assert not [name for name in names if Speaker.__name__ in name]
