"""What whoever computes has made so far, for others to listen in."""

from __future__ import annotations

import asyncio
import time

HEARD_S = 2.0  # a listener that has not asked for so long is gone


class Partial:
    """The beginning of an answer, growing; any number of listeners, each from its own place.

    Use from one event loop. note: what its maker says of it, opaque. is_whole: nothing follows.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.note = b""
        self.is_whole = False
        self._grown = asyncio.Event()
        self._listening = 0
        self._heard_s = -HEARD_S

    @property
    def is_heard(self) -> bool:
        """Somebody listens, or did a moment ago."""
        return bool(self._listening) or time.monotonic() - self._heard_s < HEARD_S

    def add(self, start: int, data: bytes | memoryview, note: bytes, *, is_whole: bool) -> int:
        """Take in what begins at byte `start`, where that is the end so far; the bytes held then.

        A maker that hears of fewer bytes than it has sent sends again from there.
        """
        if start == len(self.data):
            self.data += data
            self.note, self.is_whole = note, is_whole
            self.wake()
        return len(self.data)

    def wake(self) -> None:
        """Have whoever waits look again."""
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def beyond(self, start: int, timeout_s: float) -> None:
        """Return when there is more than `start` bytes, or it is whole, or somebody woke us."""
        if len(self.data) > start or self.is_whole:
            self._heard_s = time.monotonic()
            return
        self._listening += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._grown.wait()
        except TimeoutError:
            return
        finally:
            self._listening -= 1
            self._heard_s = time.monotonic()
