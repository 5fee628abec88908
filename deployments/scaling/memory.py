"""Notices that a replica outgrew its memory, and says when it may go.

Serve drains a replica whose health check fails, and starts another: streams that run are finished.
What it would not do is to wait until another stands in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from deployments.config.scaling_settings import StageMemory
from deployments.telemetry.processes import ProcessUse, own_use
from pipeline.errors import ConfigError, StageError

logger = logging.getLogger(__name__)

GIB = 2**30
LOOKS = 3  # beyond the bound, one after the other: a peak is no growth
LAST_PATIENCE = 5.0  # times patience_s


@dataclass(frozen=True, slots=True)
class MemoryState:
    """What replicas of a stage tell each other."""

    replica: str
    """Its id."""
    is_spent: bool
    """It outgrew its bound."""
    is_leaving: bool
    """It fails its health checks, and Serve is about to replace it."""


Others = Callable[[], Awaitable[Sequence[MemoryState]]]


class MemoryWatch:
    """The memory of one replica. Use it from one event loop.

    stage: its section, for messages. others: asks the other replicas of the stage. read, clock: for
    tests.
    """

    def __init__(
        self,
        stage: str,
        bound: StageMemory,
        patience_s: float,
        others: Others,
        read: Callable[[], ProcessUse] = own_use,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError where the replica is beyond its bound already: it would never end."""
        self._stage, self._bound, self._patience_s = stage, bound, patience_s
        self._others, self._read, self._clock = others, read, clock
        self._looks = 0
        self._spent_s: float | None = None
        self._is_leaving = False
        if (beyond := self._beyond()) is not None:
            raise ConfigError(
                f"memory.{stage}.{beyond}: that is what a replica takes when it has just started"
            )

    @property
    def is_bounded(self) -> bool:
        """Whether there is anything to look at."""
        return self._bound != StageMemory()

    @property
    def is_spent(self) -> bool:
        """Whether the replica outgrew its bound; it stays so."""
        return self._spent_s is not None

    def state(self, replica: str) -> MemoryState:
        """See MemoryState."""
        return MemoryState(replica, self.is_spent, self._is_leaving)

    async def check(self, *, is_idle: bool) -> None:
        """Look; called with each health check. Raises StageError when the replica is to go.

        is_idle: it has nothing to do.
        """
        self._look()
        if self._spent_s is None:
            return
        if not self._is_leaving:
            waited_s = self._clock() - self._spent_s
            self._is_leaving = await self._may_leave(waited_s, is_idle=is_idle)
        if self._is_leaving:
            raise StageError(f"the {self._stage}'s replica outgrew its memory and is replaced")

    def _look(self) -> None:
        beyond = self._beyond()
        self._looks = 0 if beyond is None else self._looks + 1
        if self._looks == LOOKS and self._spent_s is None:
            self._spent_s = self._clock()
            logger.warning("%s outgrew memory.%s: it is replaced", self._stage, beyond)

    async def _may_leave(self, waited_s: float, *, is_idle: bool) -> bool:
        others = await self._others()
        if any(not one.is_spent for one in others):
            return not any(one.is_leaving for one in others)
        patience_s = self._patience_s if is_idle else LAST_PATIENCE * self._patience_s
        return waited_s >= patience_s

    def _beyond(self) -> str | None:
        """The bound that the replica is beyond, and by what; None within all of them."""
        if not self.is_bounded:
            return None
        rss_gib, gpu_gib, use = self._bound.rss_gib, self._bound.gpu_gib, self._read()
        if rss_gib is not None and use.private_bytes > rss_gib * GIB:
            return f"rss_gib is {rss_gib:g}, and it takes {use.private_bytes / GIB:.2f}"
        if gpu_gib is not None and use.gpu_bytes > gpu_gib * GIB:
            return f"gpu_gib is {gpu_gib:g}, and it takes {use.gpu_bytes / GIB:.2f}"
        return None
