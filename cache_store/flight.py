"""At most one running computation per key in this process. Knows no cache and no tier."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from cache_store.errors import CacheClosed

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Callers with one digest share one task; one that goes away takes only its own wait with it.

    The task runs in an empty context: Ray cancels whatever it finds in the context of a request
    that went away, and asyncio.shield alone does not stop it. Use from one event loop.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, digest: str, work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The value of the running task, or of a new one; True when the caller joined.

        Raises what `work` raised, in every caller; CacheClosed when the task itself was cancelled.
        """
        task = self._tasks.get(digest)
        joined = task is not None
        if task is None:
            loop = asyncio.get_running_loop()
            task = loop.create_task(work(), context=contextvars.Context())
            self._tasks[digest] = task
            task.add_done_callback(lambda done: self._forget(digest, done))
        try:
            return await asyncio.shield(task), joined
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and not (caller and caller.cancelling()):
                raise CacheClosed("the shared computation was cancelled") from None
            raise

    async def close(self, deadline_s: float) -> None:
        """Wait for running tasks, then cancel what is left."""
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=deadline_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _forget(self, digest: str, task: asyncio.Task[T]) -> None:
        if self._tasks.get(digest) is task:
            del self._tasks[digest]
        if not task.cancelled():
            task.exception()  # all callers may be gone: then nobody else looks at it
