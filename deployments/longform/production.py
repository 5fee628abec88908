"""Makes the segments of a long text in turn, a bounded number ahead of the listener.

A segment whose answer is bad is drawn once more, and one that a stage failed on is asked for once
more, as long as nobody heard any of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from deployments.longform.lines import Line
from deployments.longform.listening import Listener
from deployments.longform.take import Take
from pipeline.contracts import (
    GROUP_TOKENS,
    NO_LIMIT_TOKENS,
    Quality,
    SpeechChunk,
    SpeechRequest,
    Stream,
    Verdict,
)
from pipeline.errors import CapacityError, StageError, TextError

WAITS, WAIT_S = 60, 0.5  # for a place, while the stages are full: others' replies end meanwhile

# Opens the answer to a request; is_again: the second draw of a bad one.
Draw = Callable[[SpeechRequest, bool], Stream[SpeechChunk]]


class Production:
    """Takes of `lines` in order; one is made at a time, and at most `ahead` wait for the listener.

    Its end, in whatever way, ends what is under way. All answers together have at most the
    request's max_tokens; lines beyond them have no takes.
    """

    def __init__(
        self, lines: Sequence[Line], draw: Draw, ahead: int, listener: Listener | None = None
    ) -> None:
        """listener: hears every answer; None for none."""
        self._lines, self._draw, self._listener = lines, draw, listener
        self._begun: asyncio.Queue[Take | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(ahead + 1)
        self._has_given = False
        self._left_tokens = lines[0].request.sampling.max_tokens
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._make_all(), name="segments of a long text")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def next_take(self) -> Take | None:
        """The next as it begins to be made, None behind the last. Lets go of the one before."""
        if self._has_given:
            self._room.release()
        self._has_given = True
        return await self._begun.get()

    async def _make_all(self) -> None:
        for line in self._lines:
            await self._room.acquire()
            if self._left_tokens < GROUP_TOKENS:
                break
            take = Take(line)
            self._begun.put_nowait(take)
            error = await self._made(take)
            take.end(error)
            if error is not None:
                return
        self._begun.put_nowait(None)

    async def _made(self, take: Take) -> Exception | None:
        """Make one, and return what it failed on."""
        try:
            await self._filled(take, take.line.request)
            await self._listen_to(take)
            if take.quality.verdict is not Verdict.OK and take.line.number and not take.is_heard:
                await self._drawn_again(take)
        except TextError as error:
            if not take.line.number:
                return error
            take.refused = error
        except Exception as error:  # noqa: BLE001 - it is the listener's, and raised there
            return error
        if self._left_tokens != NO_LIMIT_TOKENS and take.chunks:
            self._left_tokens -= take.chunks[-1].usage.output_tokens
        return None

    async def _drawn_again(self, take: Take) -> None:
        """The better of two draws; the second, if the listener could not wait."""
        first, before = take.chunks, take.quality
        take.begin_again()
        try:
            await self._filled(take, take.line.redrawn(), is_again=True)
        except StageError:
            if take.is_heard:
                raise
            take.take_back(first, before)
            return
        await self._listen_to(take)
        is_worse = before.merged(take.quality).verdict is not before.verdict
        if is_worse and not take.is_heard:
            kept = [_retried(chunk) for chunk in first]
            take.take_back(kept, Quality(before.verdict, is_retried=True))

    async def _listen_to(self, take: Take) -> None:
        """An answer with which nothing else is wrong may not be the text's."""
        if self._listener is None or take.quality.verdict is not Verdict.OK or not take.chunks:
            return
        samples = np.concatenate([chunk.samples for chunk in take.chunks])
        if await self._listener.hears_otherwise(take.line.request, samples):
            take.quality = Quality(Verdict.DIVERGENT, take.quality.is_retried)

    async def _filled(self, take: Take, request: SpeechRequest, *, is_again: bool = False) -> None:
        """Have a request spoken, with patience where the reply has begun already."""
        waits, may_fail = WAITS, True
        max_tokens = min(request.sampling.max_tokens, self._left_tokens)
        request = replace(request, sampling=replace(request.sampling, max_tokens=max_tokens))
        while True:
            try:
                async with aclosing(self._draw(request, is_again)) as speech:
                    async for chunk in speech:
                        take.add(_retried(chunk) if is_again else chunk)
            except CapacityError:
                waits -= 1
                if take.is_heard or not waits or not take.line.number:
                    raise
            except StageError:
                if take.is_heard or not may_fail or not take.line.number:
                    raise
                may_fail = False
            else:
                return
            take.begin_again()
            await asyncio.sleep(WAIT_S)


def _retried(chunk: SpeechChunk) -> SpeechChunk:
    return replace(chunk, quality=Quality(chunk.quality.verdict, is_retried=True))
