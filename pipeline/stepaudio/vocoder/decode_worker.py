"""The one thread that runs a decoder's model, and the queue before it.

The job that is wanted first runs first; those of one kind may run together. A job that lets the
worker know between its steps gives way to what is wanted much sooner.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.stepaudio.health import StageHealth, check_pool

Result = TypeVar("Result")

SOONER_S = 1.0  # a job gives way to what is wanted so much sooner: more than a chunk takes


@dataclass(frozen=True, slots=True, eq=False)
class Job(Generic[Result]):
    """One piece of work."""

    run: Callable[[], Result]
    """Runs the job alone."""
    kind: Hashable | None = None
    """Jobs of equal kind may run together; None never does."""
    member: object = None
    """This job's argument of `together`."""
    wanted_s: float | None = None
    """Monotonic clock, when its result is wanted; None for when it is submitted."""
    rows: int = 0
    """Token rows that it turns into sound; 0 for work that is not timed."""


# Told what chunks that ran together took: their rows, how many they were, seconds.
Timed = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Result]):
    wanted_s: float
    job: Job[Result]
    future: Future[Result]


def _wanted_s(waiting: _Waiting[Result]) -> float:
    return waiting.wanted_s


@dataclass(slots=True)
class _Running:
    """What the thread works at. away_s: of that time, what went to others that it gave way to."""

    wanted_s: float
    away_s: float = 0.0


class DecodeWorker(Generic[Result]):
    """Runs jobs one after another; of those that are wanted at the same time, the oldest first.

    together: does the jobs of these members at once, one result each, in order. max_together: how
    many at most; 1 switches it off. begin: runs first on the thread. timed: set by who wants to
    know what chunks take; called on the thread.
    health: records the outcome of model calls, of jobs and of others.
    """

    def __init__(
        self,
        together: Callable[[Sequence[object]], Sequence[Result]],
        max_together: int,
        begin: Callable[[], None],
    ) -> None:
        self._together = together
        self._max_together = max_together
        self._lock = threading.Lock()
        self._waiting: list[_Waiting[Result]] = []
        self._running: _Running | None = None  # of the thread alone
        self._thread = ThreadPoolExecutor(1, "vocoder", begin)
        self.health = StageHealth("vocoder")
        self.timed: Timed | None = None

    def submit(self, job: Job[Result]) -> Future[Result]:
        """The future of `job`; cancelling it before it runs drops it."""
        future: Future[Result] = Future()
        wanted_s = time.monotonic() if job.wanted_s is None else job.wanted_s
        with self._lock:
            self._waiting.append(_Waiting(wanted_s, job, future))
        self._thread.submit(self._turn)
        return future

    def check_health(self) -> None:
        """Raises StageError when the thread or its device is gone, or a job hangs."""
        check_pool(self._thread, "vocoder")
        self.health.check()

    def close(self) -> None:
        """Stop once the current job is done; what waits is cancelled."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        while self._waiting:
            self._waiting.pop().future.cancel()

    def _turn(self) -> None:
        """Called once per job, for whichever is wanted first; a no-op when all were taken."""
        self._run(self._take(math.inf))

    def give_way(self) -> bool:
        """Called by a job between its steps: run what is wanted much sooner. Whether there was."""
        assert self._running is not None, "only a job gives way"
        before_s = self._running.wanted_s - SOONER_S
        if not (taken := self._take(before_s)):
            return False
        while taken:
            self._run(taken)
            taken = self._take(before_s)
        return True

    def _run(self, taken: list[_Waiting[Result]]) -> None:
        taken = [one for one in taken if one.future.set_running_or_notify_cancel()]
        if not taken:
            return
        outer, begun_s = self._running, time.monotonic()
        running = self._running = _Running(min(map(_wanted_s, taken)))
        try:
            with self.health.watching():
                results = self._results([one.job for one in taken])
        except BaseException as error:  # noqa: BLE001 - the job's caller gets it
            for one in taken:
                one.future.set_exception(error)
        else:
            rows = sum(one.job.rows for one in taken)
            if self.timed is not None and rows:
                self.timed(rows, len(taken), time.monotonic() - begun_s - running.away_s)
            for one, result in zip(taken, results, strict=True):
                one.future.set_result(result)
        finally:
            taken.clear()  # the error's traceback holds this frame, which must not hold the jobs
            one = None
            self._running = outer
            if outer is not None:
                outer.away_s += time.monotonic() - begun_s

    def _take(self, before_s: float) -> list[_Waiting[Result]]:
        """The job that is wanted first, and before then, and those that may run with it."""
        with self._lock:
            self._waiting = [one for one in self._waiting if not one.future.cancelled()]
            if not self._waiting:
                return []
            first = min(self._waiting, key=_wanted_s)
            if first.wanted_s >= before_s:
                return []
            taken = [first]
            if first.job.kind is not None and self._max_together > 1:
                alike = [one for one in self._waiting if one.job.kind == first.job.kind]
                taken = sorted(alike, key=_wanted_s)[: self._max_together]
            for one in taken:
                self._waiting.remove(one)
            return taken

    def _results(self, jobs: list[Job[Result]]) -> Sequence[Result]:
        if len(jobs) == 1:
            return [jobs[0].run()]
        return self._together([job.member for job in jobs])
