"""Requests of one stage in this process: running, waiting, and seconds waited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
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


class StageLoad:
    """Counts running and waiting requests of one stage in this process."""

    def __init__(self, stage: Kind) -> None:
        self._stage = stage
        self._queue = QueueSeconds(stage)
        self.running = 0
        self.waiting = 0
        self._gauges = LoadGauges(stage, lambda: (self.running, self.waiting))

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
        self._gauges.publish()

    async def waited(self, permit: Awaitable[Value], timeout_s: float | None = None) -> Value:
        """The result of `permit`; the request counts as waiting until then.

        Raises CapacityError when no permit came in time.
        """
        asked_s = time.perf_counter()
        try:
            with self.counted(waiting=1):
                async with asyncio.timeout(timeout_s):
                    given = await permit
        except TimeoutError as error:
            raise CapacityError(f"the {self._stage} is full; retry in a moment") from error
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
