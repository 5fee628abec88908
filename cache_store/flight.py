"""At most one running computation per key in this process."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from cache_store.errors import CacheClosed

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Callers with one digest share one task; cancelling a caller cancels only its own wait.

    The task runs in an empty context: Ray cancels everything in the context of a request whose
    caller disconnected, and asyncio.shield alone does not prevent it. Use from one event loop.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}  # tasks that callers may still join
        self._owners: dict[asyncio.Task[T], str] = {}  # all running tasks

    def __len__(self) -> int:
        return len(self._owners)

    async def run(
        self, digest: str, work: Callable[[], Coroutine[Any, Any, T]], owner: str = ""
    ) -> tuple[T, bool]:
        """The value of the running task, or of a new one; True when the caller joined.

        owner: what `detach` finds the task by.
        Raises the error of `work` in every caller; CacheClosed when the task itself was cancelled.
        """
        task = self._tasks.get(digest)
        joined = task is not None
        if task is None:
            loop = asyncio.get_running_loop()
            task = loop.create_task(work(), context=contextvars.Context())
            self._tasks[digest] = task
            self._owners[task] = owner
            task.add_done_callback(lambda done: self._forget(digest, done))
        try:
            return await asyncio.shield(task), joined
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and not (caller and caller.cancelling()):
                raise CacheClosed("the shared computation was cancelled") from None
            raise

    def detach(self, owner: str) -> None:
        """Later callers join none of the owner's tasks; callers that wait are still answered."""
        for digest, task in list(self._tasks.items()):
            if self._owners[task] == owner:
                del self._tasks[digest]

    async def close(self, deadline_s: float) -> None:
        """Wait for running tasks, then cancel the rest."""
        tasks = list(self._owners)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=deadline_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _forget(self, digest: str, task: asyncio.Task[T]) -> None:
        del self._owners[task]
        if self._tasks.get(digest) is task:
            del self._tasks[digest]
        if not task.cancelled():
            task.exception()  # marks it as retrieved: all callers may be gone
