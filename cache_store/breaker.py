"""A circuit breaker: sets aside what keeps failing until it is back."""

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
    """When to open and how often to probe.

    failures: this many in a row open it. rate, calls, window_s: so does this share of at least
    `calls` calls in the window. first_probe_s, longest_probe_s: the pause before a probe doubles
    from one to the other.
    """

    failures: int = 5
    rate: float = 0.5
    calls: int = 10
    window_s: float = 10.0
    first_probe_s: float = 0.5
    longest_probe_s: float = 15.0


class Breaker:
    """Wrap each call in `guard`; while open, `guard` raises StoreSkipped at once.

    While open a background task calls `probe` until it succeeds, so that no request pays for
    finding out. Only StoreError counts as a failure: an absent object is an answer. Refused
    credentials open it at once. Use from one event loop.
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
        self.reason = ""  # of the last opening, for people
        self.openings = 0

    @property
    def state(self) -> BreakerState:
        return BreakerState.CLOSED if self._closed.is_set() else BreakerState.OPEN

    @contextlib.asynccontextmanager
    async def guard(self) -> AsyncGenerator[None]:
        """Count what happens inside. Raises StoreSkipped, without running it, while open."""
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
        """Return when calls are let through."""
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
            return  # calls that were under way when it opened
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
            except Exception:  # a probe that gave up for good would leave this open for good
                logger.exception("%s cannot be probed", self._name)
            else:
                break
            pause_s = min(2 * pause_s, self._policy.longest_probe_s)
        self._recent.clear()
        self._in_a_row = 0
        self._closed.set()
        logger.warning("%s answers again", self._name)
