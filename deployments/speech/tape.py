"""Speech as it comes, for any number of listeners, each from its own start.

Samples are 16-bit steps whoever listens and however often: a reply has the same bytes whether its
speech is being made or was kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.audio.encode import from_pcm16, to_pcm16
from pipeline.contracts import (
    GOOD,
    NO_TIMES,
    NO_USAGE,
    NOT_REUSED,
    OUTPUT_SAMPLE_RATE_HZ,
    Drawn,
    Float32Array,
    Int16Array,
    Quality,
    SpeechChunk,
    StageTimes,
    Stream,
    Usage,
)

MEMORY = "l1"  # what answered: this process's memory
JOINED = "joined"  # what answered: speech that is being made for another request
SAMPLE_BYTES = 2
_FIRST_SLICE = OUTPUT_SAMPLE_RATE_HZ // 4  # of speech that is all there: soon encoded, soon heard
_SLICE_GROWTH = 4
_MOST_SLICE = OUTPUT_SAMPLE_RATE_HZ * 16  # made ready for a codec in a fraction of a millisecond
_SILENCE = np.empty(0, np.int16)


def on_grid(samples: Float32Array) -> Float32Array:
    """float32 (n,) rounded to 16-bit steps, as a tape has it."""
    return from_pcm16(to_pcm16(samples))


def sliced(samples: Int16Array, *, is_single: bool = False) -> Iterator[Int16Array]:
    """(n,) in pieces, short ones first; as it is if it is a single one."""
    if is_single:
        yield samples
        return
    start, size = 0, _FIRST_SLICE
    while start < len(samples):
        yield samples[start : start + size]
        start, size = start + size, min(size * _SLICE_GROWTH, _MOST_SLICE)


class Tape:
    """One answer as far as it is known. Use it from one event loop.

    deserted: called when the last listener leaves before the end. source: what answers, as
    `StageTimes.speech` has it. times: of who makes it. drawn: its tokens, when it is whole.
    is_single: it was made in one piece, which is told to be the last one whoever listens: a reply
    is then another than one of several pieces.
    """

    def __init__(self, deserted: Callable[[], None] | None = None) -> None:
        self.pieces: list[Int16Array] = []
        self.n_samples = 0
        self.source = NOT_REUSED
        self.times: StageTimes = NO_TIMES
        self.quality: Quality = GOOD
        self.usage: Usage = NO_USAGE
        self.drawn: Drawn | None = None
        self.is_single = False
        self.is_whole = False
        self.error: Exception | None = None
        self.listeners = 0
        self._deserted = deserted
        self._more = asyncio.Event()

    def add(self, samples: Int16Array) -> None:
        """The next samples, (n,); nothing may write to them any more."""
        if len(samples):
            self.pieces.append(samples)
            self.n_samples += len(samples)
            self._wake()

    def end(self) -> None:
        """Nothing follows."""
        self.is_whole = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Nothing follows; every listener is told after what there is."""
        self.error = error
        self._wake()

    def listen(self) -> Listener:
        """A listener of its own, from the start."""
        source = self.source
        if self.is_whole:
            source = MEMORY if source in (NOT_REUSED, JOINED) else source
        elif self.listeners or self.pieces:
            source = JOINED
        self.listeners += 1
        return Listener(self, source)

    def leave(self) -> None:
        """A listener goes."""
        self.listeners -= 1
        is_over = self.is_whole or self.error is not None
        if not self.listeners and not is_over and self._deserted is not None:
            self._deserted()

    async def more(self, timeout_s: float | None = None) -> None:
        """Return when something came, or after the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._more.wait()
        except TimeoutError:
            return

    def samples_from(self, start: int, most: int) -> Int16Array:
        """Samples from `start` on, at most so many; int16 (n,)."""
        found, at = [_SILENCE], 0
        for piece in self.pieces:
            if at + len(piece) > start and at < start + most:
                found.append(piece[max(start - at, 0) : start + most - at])
            at += len(piece)
        return np.concatenate(found)

    def _wake(self) -> None:
        more, self._more = self._more, asyncio.Event()
        more.set()


class Listener(Stream[SpeechChunk]):
    """A tape from its start, as speech."""

    def __init__(self, tape: Tape, source: str) -> None:
        self._tape: Tape | None = tape
        self._source = source
        self._at = 0

    async def __anext__(self) -> SpeechChunk:
        while (tape := self._tape) is not None:
            if self._at < len(tape.pieces):
                self._at += 1
                is_last = tape.is_whole and self._at == len(tape.pieces)
                is_told = self._at > 1 or tape.is_single
                piece = tape.pieces[self._at - 1]
                return await self._chunk(tape, piece, is_last=is_last and is_told)
            if tape.is_whole:
                return await self._chunk(tape, _SILENCE, is_last=True)
            if tape.error is not None:
                await self.aclose()
                raise tape.error
            await tape.more()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        tape, self._tape = self._tape, None
        if tape is not None:
            tape.leave()

    async def _chunk(self, tape: Tape, piece: Int16Array, *, is_last: bool) -> SpeechChunk:
        source = tape.source if self._source == NOT_REUSED else self._source
        times = tape.times if source == NOT_REUSED else StageTimes(speech=source)
        drawn = tape.drawn if is_last else None
        if is_last:
            await self.aclose()
        return SpeechChunk(from_pcm16(piece), is_last, times, tape.quality, tape.usage, drawn)
