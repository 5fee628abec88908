"""The one thread that runs a decoder's model, and the queue before it.

Jobs run in order of arrival; those of one kind may run together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.stepaudio.health import StageHealth, check_pool

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Job(Generic[Result]):
    """One piece of work."""

    run: Callable[[], Result]
    """Runs the job alone."""
    kind: Hashable | None = None
    """Jobs of equal kind may run together; None never does."""
    member: object = None
    """This job's argument of `together`."""


class DecodeWorker(Generic[Result]):
    """Runs jobs one after another.

    together: does the jobs of these members at once, one result each, in order. max_together: how
    many at most; 1 switches it off. begin: runs first on the thread.
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
        self._waiting: deque[tuple[Job[Result], Future[Result]]] = deque()
        self._thread = ThreadPoolExecutor(1, "vocoder", begin)
        self.health = StageHealth("vocoder")

    def submit(self, job: Job[Result]) -> Future[Result]:
        """The future of `job`; cancelling it before it runs drops it."""
        future: Future[Result] = Future()
        with self._lock:
            self._waiting.append((job, future))
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
            self._waiting.popleft()[1].cancel()

    def _turn(self) -> None:
        """Called once per job; a no-op when the job was batched with an earlier one."""
        taken = [entry for entry in self._take() if entry[1].set_running_or_notify_cancel()]
        if not taken:
            return
        try:
            with self.health.watching():
                results = self._results([job for job, _ in taken])
        except BaseException as error:  # noqa: BLE001 - the job's caller gets it
            for entry in taken:
                entry[1].set_exception(error)
        else:
            for entry, result in zip(taken, results, strict=True):
                entry[1].set_result(result)
        finally:
            taken.clear()  # the error's traceback holds this frame, which must not hold the jobs
            entry = None

    def _take(self) -> list[tuple[Job[Result], Future[Result]]]:
        """The oldest job and those that may run with it, out of the queue."""
        with self._lock:
            if not self._waiting:
                return []
            taken = [self._waiting.popleft()]
            kind = taken[0][0].kind
            if kind is None or self._max_together == 1:
                return taken
            for entry in list(self._waiting):
                if len(taken) < self._max_together and entry[0].kind == kind:
                    self._waiting.remove(entry)
                    taken.append(entry)
            return taken

    def _results(self, jobs: list[Job[Result]]) -> Sequence[Result]:
        if len(jobs) == 1:
            return [jobs[0].run()]
        return self._together([job.member for job in jobs])
