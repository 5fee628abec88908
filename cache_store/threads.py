"""Threads for blocking calls, with a deadline on every wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from cache_store.errors import StoreError, StoreTimeout

T = TypeVar("T")

INLINE_BYTES = 2**18  # sealed, or verified, in a millisecond


class StoreThreads:
    """Runs blocking calls; one that outlasts its deadline runs on and stays registered."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, name)
        self._lock = threading.Lock()
        self._running: dict[Future[Any], str] = {}

    async def run(self, deadline_s: float, call: Callable[[], T], owner: str = "") -> T:
        """The value of `call`. Raises its error, or StoreTimeout.

        owner: what `settle` waits for.
        """
        try:
            future = self._pool.submit(call)
        except RuntimeError as error:  # the pool is shut down
            raise StoreError(str(error)) from error
        with self._lock:
            self._running[future] = owner
        future.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise StoreTimeout(f"no answer within {deadline_s} s") from error

    async def settle(self, owner: str, deadline_s: float) -> None:
        """Return when no call of the owner runs any more. Raises StoreTimeout."""
        with self._lock:
            theirs = [future for future, whose in self._running.items() if whose == owner]
        if theirs and (await asyncio.to_thread(wait, theirs, deadline_s)).not_done:
            raise StoreTimeout(f"a call still runs after {deadline_s} s")

    def shutdown(self) -> None:
        """Refuse new calls; running ones are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ended(self, future: Future[Any]) -> None:
        with self._lock:
            self._running.pop(future, None)


async def off_loop(work: Callable[[], T], n_bytes: int) -> T:
    """The value of `work`, made on a thread where so many bytes would hold the event loop."""
    return work() if n_bytes <= INLINE_BYTES else await asyncio.to_thread(work)
