"""Requests of one stage in this process: running, waiting, and seconds waited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from deployments.config.stages import Kind
from deployments.telemetry import metrics as table
from deployments.telemetry.gauges import keep_published
from pipeline.errors import CapacityError

Value = TypeVar("Value")


class Permit(Protocol):
    """What a request waits for before it runs; like a lock or a semaphore."""

    async def acquire(self) -> Any:
        """Wait for it."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class LoadGauges:
    """Gauges of one stage's requests in this process, read when they are published.

    read: the numbers of running and of waiting requests.
    """

    def __init__(self, stage: Kind, read: Callable[[], tuple[int, int]]) -> None:
        self._tags = {"stage": stage.value}
        self._read = read
        self._running = table.RUNNING.open()
        self._waiting = table.WAITING.open()
        keep_published(self)

    def publish(self) -> None:
        """Set the gauges to the current numbers."""
        running, waiting = self._read()
        self._running.set(running, tags=self._tags)
        self._waiting.set(waiting, tags=self._tags)


class QueueSeconds:
    """Seconds that requests of one stage waited in this process."""

    def __init__(self, stage: Kind) -> None:
        self._tags = {"stage": stage.value}
        self._seconds = table.QUEUE_TIME.open()

    def observe(self, seconds: float) -> None:
        """A request was admitted."""
        self._seconds.observe(seconds, tags=self._tags)


@dataclass(frozen=True, slots=True)
class Busy:
    """What a stage in this process was at since somebody looked last."""

    running: int
    """Most requests at work at a time, now included."""
    refused: int
    """Requests turned away for want of room."""
    queue_age_s: float
    """How long the one waits who waits longest; 0 while nobody does."""


class StageLoad:
    """Counts running and waiting requests of one stage in this process."""

    def __init__(self, stage: Kind) -> None:
        self._stage = stage
        self._queue = QueueSeconds(stage)
        self.running = 0
        self.waiting = 0
        self._most_running = 0
        self._refused = 0
        self._asked_s: dict[object, float] = {}  # of those who wait, the first to come first
        self._gauges = LoadGauges(stage, lambda: (self.running, self.waiting))

    def look(self) -> Busy:
        """What it was at since the last look."""
        oldest_s = next(iter(self._asked_s.values()), None)
        age_s = 0.0 if oldest_s is None else time.perf_counter() - oldest_s
        busy = Busy(self._most_running, self._refused, age_s)
        self._most_running, self._refused = self.running, 0
        return busy

    def refused(self) -> None:
        """A request was turned away for want of room."""
        self._refused += 1

    @contextmanager
    def counted(self, *, running: int = 0, waiting: int = 0) -> Iterator[None]:
        """Increment the counts for the duration of the context."""
        self._add(running, waiting)
        try:
            yield
        finally:
            self._add(-running, -waiting)

    def _add(self, running: int, waiting: int) -> None:
        self.running += running
        self.waiting += waiting
        self._most_running = max(self._most_running, self.running)
        self._gauges.publish()

    async def waited(self, permit: Awaitable[Value], timeout_s: float | None = None) -> Value:
        """The result of `permit`; the request counts as waiting until then.

        Raises CapacityError when no permit came in time.
        """
        waiting = object()
        self._asked_s[waiting] = asked_s = time.perf_counter()
        try:
            with self.counted(waiting=1):
                async with asyncio.timeout(timeout_s):
                    given = await permit
        except TimeoutError as error:
            self.refused()
            raise CapacityError(f"the {self._stage} is full; retry in a moment") from error
        except CapacityError:
            self.refused()
            raise
        finally:
            del self._asked_s[waiting]
        self._queue.observe(time.perf_counter() - asked_s)
        return given

    @asynccontextmanager
    async def admitted(
        self, permit: Permit, timeout_s: float | None = None
    ) -> AsyncGenerator[None]:
        """Wait for `permit` (see `waited`) and hold it; the request counts as running meanwhile."""
        await self.waited(permit.acquire(), timeout_s)
        try:
            with self.counted(running=1):
                yield
        finally:
            permit.release()
