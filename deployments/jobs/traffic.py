"""Whether a job may begin another segment now, or others go first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

LOOK_S = 0.5  # between looks at stages that are busy with others


class Traffic(Protocol):
    """What else the service is at work on."""

    async def is_quiet(self, own: int) -> bool:
        """Whether a segment may begin. own: segments that this replica has in work.

        False while the stages do not say.
        """
        ...


class Gate:
    """Lets segments of all jobs of a replica begin: so many at a time, one after another.

    patience_s: longest wait behind others. waits: called when it begins and ceases to.
    """

    def __init__(self, traffic: Traffic, concurrency: int, patience_s: float) -> None:
        self._traffic = traffic
        self._places = asyncio.Semaphore(concurrency)
        self._patience_s = patience_s
        self._turn = asyncio.Lock()
        self.in_work = 0

    async def enter(self, waits: Callable[[bool], None]) -> None:
        """Return when a segment may begin; every entry ends with `leave`."""
        await self._places.acquire()
        try:
            async with self._turn:
                await self._quiet(waits)
        except BaseException:
            self._places.release()
            raise
        self.in_work += 1

    def leave(self) -> None:
        """A segment that entered is over."""
        self.in_work -= 1
        self._places.release()

    async def _quiet(self, waits: Callable[[bool], None]) -> None:
        give_up_s = time.monotonic() + self._patience_s
        while not await self._traffic.is_quiet(self.in_work):
            waits(True)
            if time.monotonic() >= give_up_s:
                break
            await asyncio.sleep(LOOK_S)
        waits(False)
