"""One segment's answer on its way from whoever makes it to the one who listens."""

from __future__ import annotations

import asyncio

from deployments.longform.lines import Line
from pipeline.contracts import GOOD, Quality, SpeechChunk
from pipeline.errors import TextError


class Take:
    """An answer as far as it came, for one listener. Use it from one event loop.

    Until the listener has some of it, it can be begun again. quality: of the whole, at its end.
    refused: why nothing of it can be spoken.
    """

    def __init__(self, line: Line) -> None:
        self.line = line
        self.quality: Quality = GOOD
        self.refused: TextError | None = None
        self._chunks: list[SpeechChunk] = []
        self._n_given = 0
        self._is_over = self._is_heard = False
        self._error: Exception | None = None
        self._more = asyncio.Event()

    @property
    def is_heard(self) -> bool:
        """The listener has some of it."""
        return self._is_heard

    @property
    def chunks(self) -> list[SpeechChunk]:
        """All that came."""
        return self._chunks

    def add(self, chunk: SpeechChunk) -> None:
        """The next chunk."""
        self._chunks.append(chunk)
        self.quality = chunk.quality
        self._more.set()

    def begin_again(self) -> None:
        """Forget what came. Only while nothing is heard."""
        self.take_back([], GOOD)

    def take_back(self, chunks: list[SpeechChunk], quality: Quality) -> None:
        """Other chunks in place of what came, and what is thought of them; as `begin_again`."""
        self._chunks, self.quality, self._n_given = chunks, quality, 0

    def end(self, error: Exception | None = None) -> None:
        """Nothing follows; the listener gets the error behind what there is."""
        self._is_over, self._error = True, error
        self._more.set()

    async def settled(self, patience_s: float | None = None) -> None:
        """Return when it is over, or after `patience_s`."""
        try:
            async with asyncio.timeout(patience_s):
                while not self._is_over:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            return

    async def next_chunk(self) -> SpeechChunk | None:
        """The listener's next, as it comes; None behind the last. Raises what it ended with."""
        while self._n_given == len(self._chunks):
            if self._is_over:
                if self._error is not None:
                    raise self._error
                return None
            self._more.clear()
            await self._more.wait()
        chunk = self._chunks[self._n_given]
        self._n_given += 1
        self._is_heard = self._is_heard or len(chunk.samples) > 0
        return chunk
