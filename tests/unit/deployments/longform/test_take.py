"""A segment's answer that is begun again while its listener already has an empty piece of it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from deployments.longform.lines import lines_of
from deployments.longform.take import Take
from pipeline.contracts import Quality, SpeechChunk, SpeechRequest, Verdict
from pipeline.errors import StageError

pytestmark = pytest.mark.unit
(LINE,) = lines_of(SpeechRequest("Hello there.", "Hi."))
NOTHING = SpeechChunk(np.empty(0, np.float32), last=False)


def sounding(level: float, *, last: bool = False) -> SpeechChunk:
    return SpeechChunk(np.full(10, level, np.float32), last=last)


class Listening:
    """Hears a take; levels: of the chunks that sounded."""

    def __init__(self, take: Take) -> None:
        self.levels: list[float] = []
        self.task = asyncio.create_task(self._hear(take))

    async def _hear(self, take: Take) -> None:
        while (chunk := await take.next_chunk()) is not None:
            self.levels += [round(float(level), 2) for level in chunk.samples[:1]]

    async def until_idle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def ended(self) -> list[float]:
        async with asyncio.timeout(5.0):
            await self.task
        return self.levels


async def test_all_of_the_second_try_is_heard_after_an_empty_piece_of_the_first() -> None:
    take = Take(LINE)
    one = Listening(take)
    take.add(NOTHING)
    await one.until_idle()
    assert not take.is_heard
    take.begin_again()
    for chunk in (sounding(0.1), sounding(0.2), sounding(0.3, last=True)):
        take.add(chunk)
    take.end()
    assert await one.ended() == [0.1, 0.2, 0.3]


async def test_a_second_try_that_is_shorter_than_what_was_passed_over_is_heard_too() -> None:
    take = Take(LINE)
    one = Listening(take)
    for _ in range(3):
        take.add(NOTHING)
    await one.until_idle()
    take.begin_again()
    take.add(sounding(0.1, last=True))
    await one.until_idle()
    assert (one.levels, take.is_heard) == ([0.1], True)
    take.end()
    assert await one.ended() == [0.1]


async def test_a_first_try_that_is_taken_back_is_heard_from_its_beginning() -> None:
    """It sounded behind its empty piece, where the listener had not come yet."""
    take = Take(LINE)
    one = Listening(take)
    take.add(NOTHING)
    await one.until_idle()
    first = [*take.chunks, sounding(0.1), sounding(0.2, last=True)]
    take.begin_again()
    take.add(NOTHING)
    take.add(NOTHING)
    await one.until_idle()
    take.take_back(first, Quality(Verdict.LOOP))
    take.end()
    assert await one.ended() == [0.1, 0.2]
    assert take.quality.verdict is Verdict.LOOP


async def test_what_it_failed_on_comes_behind_what_there_is() -> None:
    take = Take(LINE)
    one = Listening(take)
    take.add(NOTHING)
    await one.until_idle()
    take.begin_again()
    take.add(sounding(0.1))
    take.end(StageError("the vocoder failed"))
    with pytest.raises(StageError):
        await one.ended()
    assert one.levels == [0.1]
