"""A circuit breaker: skips a backend that keeps failing until a probe succeeds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum

from cache_store.background import spawn
from cache_store.errors import StoreDenied, StoreError, StoreSkipped

logger = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[object]]


class BreakerState(IntEnum):
    """Numbers as metrics show them."""

    CLOSED = 0
    OPEN = 1


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and how often it probes."""

    failures: int = 5
    """Consecutive failures that open it."""
    rate: float = 0.5
    """Share of failed calls within `window_s` that opens it."""
    calls: int = 10
    """Calls within `window_s` below which `rate` does not count."""
    window_s: float = 10.0
    """Length of the window that `rate` is taken over."""
    first_probe_s: float = 0.5
    """Pause before the first probe; it doubles with every probe that fails."""
    longest_probe_s: float = 15.0
    """The longest pause between two probes."""


class Breaker:
    """Wrap each call in `guard`; while open, `guard` raises StoreSkipped at once.

    While open, a background task calls `probe` until it succeeds, so no request has to try. Only
    StoreError counts as a failure: an absent object is an answer. Refused credentials open it at
    once. Use from one event loop.
    """

    def __init__(self, name: str, probe: Probe, policy: BreakerPolicy | None = None) -> None:
        self._name = name
        self._probe = probe
        self._policy = policy or BreakerPolicy()
        self._recent: deque[tuple[float, bool]] = deque()
        self._in_a_row = 0
        self._closed = asyncio.Event()
        self._closed.set()
        self._prober: asyncio.Task[None] | None = None
        self.reason = ""  # of the last opening, for the log and reports
        self.openings = 0

    @property
    def state(self) -> BreakerState:
        return BreakerState.CLOSED if self._closed.is_set() else BreakerState.OPEN

    @contextlib.asynccontextmanager
    async def guard(self) -> AsyncGenerator[None]:
        """Count the block's outcome. While open, raises StoreSkipped instead of running it."""
        if not self._closed.is_set():
            raise StoreSkipped(f"{self._name} is set aside: {self.reason}")
        try:
            yield
        except StoreError as error:
            self._record(failed=True)
            if isinstance(error, StoreDenied) or self._is_failing():
                self._open(str(error))
            raise
        else:
            self._record(failed=False)

    async def wait_closed(self) -> None:
        """Wait until the breaker is closed."""
        await self._closed.wait()

    async def close(self) -> None:
        """Stop probing."""
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait([self._prober])

    def _record(self, *, failed: bool) -> None:
        now_s = time.monotonic()
        self._in_a_row = self._in_a_row + 1 if failed else 0
        self._recent.append((now_s, failed))
        while self._recent and self._recent[0][0] < now_s - self._policy.window_s:
            self._recent.popleft()

    def _is_failing(self) -> bool:
        failures = sum(failed for _, failed in self._recent)
        many = len(self._recent) >= self._policy.calls
        return self._in_a_row >= self._policy.failures or (
            many and failures >= self._policy.rate * len(self._recent)
        )

    def _open(self, reason: str) -> None:
        if not self._closed.is_set():
            return  # calls that had started before it opened
        self.reason = reason
        self.openings += 1
        self._closed.clear()
        logger.warning("%s is set aside until it answers again: %s", self._name, reason)
        self._prober = spawn(f"probing {self._name}", self._probe_until_well())

    async def _probe_until_well(self) -> None:
        pause_s = self._policy.first_probe_s
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.0))  # noqa: S311 - jitter
            try:
                await self._probe()
            except StoreError as error:
                logger.info("%s still fails: %s", self._name, error)
            except Exception:  # a probe task that died would leave the breaker open for ever
                logger.exception("%s cannot be probed", self._name)
            else:
                break
            pause_s = min(2 * pause_s, self._policy.longest_probe_s)
        self._recent.clear()
        self._in_a_row = 0
        self._closed.set()
        logger.warning("%s answers again", self._name)
