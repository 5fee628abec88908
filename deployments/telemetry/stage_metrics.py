"""What the stages do and hand each other, as metrics: running, waiting, seconds and bytes.

Names follow vLLM-Omni's (`num_requests_*`, `stage_*`, `transfer_*`) with our prefix. Knows no HTTP
and no model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from ray.serve import metrics

from deployments.telemetry.gauges import keep_published
from pipeline.contracts import StageTimes
from pipeline.errors import CapacityError

WAIT_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
WORK_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]
TRANSFER_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0]
STAGE_TAG: Any = ("stage",)  # Ray types tag_keys as one tag
HOP_TAG: Any = ("hop",)

Value = TypeVar("Value")


class Permit(Protocol):
    """What a request waits for before it is at work, as a lock or a semaphore has it."""

    async def acquire(self) -> Any:
        """Wait for it."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class LoadGauges:
    """Gauges of one stage's requests in this process, read whenever they are published.

    stage: router, tokenizer, llm or vocoder. read: how many are at work, and how many wait.
    """

    def __init__(self, stage: str, read: Callable[[], tuple[int, int]]) -> None:
        self._tags = {"stage": stage}
        self._read = read
        self._running = metrics.Gauge(
            "timbre_num_requests_running",
            description="Requests at work, by stage; at the router all that it holds.",
            tag_keys=STAGE_TAG,
        )
        self._waiting = metrics.Gauge(
            "timbre_num_requests_waiting",
            description="Requests waiting for their turn, by stage; at the router for first audio.",
            tag_keys=STAGE_TAG,
        )
        keep_published(self)

    def publish(self) -> None:
        """Set the gauges to the present numbers."""
        running, waiting = self._read()
        self._running.set(running, tags=self._tags)
        self._waiting.set(waiting, tags=self._tags)


class QueueSeconds:
    """How long requests of one stage waited for their turn here. stage: see LoadGauges."""

    def __init__(self, stage: str) -> None:
        self._tags = {"stage": stage}
        self._seconds = metrics.Histogram(
            "timbre_stage_queue_s",
            description="Seconds a request waited for its turn, by stage.",
            boundaries=WAIT_BUCKETS,
            tag_keys=STAGE_TAG,
        )

    def observe(self, seconds: float) -> None:
        """A request got its turn."""
        self._seconds.observe(seconds, tags=self._tags)


class StageLoad:
    """Counts requests of one stage in this process: at work, and waiting for their turn.

    stage: see LoadGauges.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._queue = QueueSeconds(stage)
        self.running = 0
        self.waiting = 0
        self._gauges = LoadGauges(stage, lambda: (self.running, self.waiting))

    @contextmanager
    def counted(self, *, running: int = 0, waiting: int = 0) -> Iterator[None]:
        """So many more for as long as the context lasts."""
        self._add(running, waiting)
        try:
            yield
        finally:
            self._add(-running, -waiting)

    def _add(self, running: int, waiting: int) -> None:
        self.running += running
        self.waiting += waiting
        self._gauges.publish()

    async def waited(self, turn: Awaitable[Value], timeout_s: float | None = None) -> Value:
        """What `turn` gives, counted as waiting until then.

        Raises CapacityError when no turn came in time.
        """
        asked_s = time.perf_counter()
        try:
            with self.counted(waiting=1):
                async with asyncio.timeout(timeout_s):
                    given = await turn
        except TimeoutError as error:
            raise CapacityError(f"the {self._stage} is full; retry in a moment") from error
        self._queue.observe(time.perf_counter() - asked_s)
        return given

    @asynccontextmanager
    async def turn(self, admission: Permit, timeout_s: float | None = None) -> AsyncGenerator[None]:
        """Wait for `admission` as `waited` does, hold it, and count as running meanwhile."""
        await self.waited(admission.acquire(), timeout_s)
        try:
            with self.counted(running=1):
                yield
        finally:
            admission.release()


class StageSeconds:
    """Where requests spent their time, as the router saw it."""

    def __init__(self) -> None:
        self._seconds = metrics.Histogram(
            "timbre_stage_s",
            description="Seconds a request spent in a stage, waiting in it included.",
            boundaries=WORK_BUCKETS,
            tag_keys=STAGE_TAG,
        )

    def finished(self, times: StageTimes) -> None:
        """A request ended; stages that it never reached are left out."""
        for stage, seconds in times.stages.items():
            self._seconds.observe(seconds, tags={"stage": stage})


@dataclass(frozen=True, slots=True, eq=False)
class Stamped(Generic[Value]):
    """A record on its way between stages. sent_s: the sender's wall clock."""

    value: Value
    sent_s: float


def stamped(value: Value) -> Stamped[Value]:
    """`value`, sent now."""
    return Stamped(value, time.time())


class Transfers:
    """What stages hand each other: bytes of arrays, and seconds on the way.

    Seconds are differences of wall clocks: between machines they are as good as those agree.
    """

    def __init__(self) -> None:
        self._bytes = metrics.Counter(
            "timbre_transfer_bytes",
            description="Bytes of arrays handed between stages, by hop.",
            tag_keys=HOP_TAG,
        )
        self._seconds = metrics.Histogram(
            "timbre_transfer_s",
            description="Seconds a record was on its way between stages, by hop.",
            boundaries=TRANSFER_BUCKETS,
            tag_keys=HOP_TAG,
        )

    def received(self, hop: str, record: Stamped[Value]) -> Value:
        """Count `record` as arrived now over `hop` (from_to) and unwrap it."""
        tags = {"hop": hop}
        if n_bytes := array_bytes(record.value):
            self._bytes.inc(n_bytes, tags=tags)
        self._seconds.observe(max(time.time() - record.sent_s, 0.0), tags=tags)
        return record.value


def array_bytes(record: object) -> int:
    """Bytes of all arrays in a dataclass."""
    if isinstance(record, np.ndarray):
        return record.nbytes
    if is_dataclass(record):
        return sum(array_bytes(getattr(record, field.name)) for field in fields(record))
    return 0
