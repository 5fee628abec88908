"""A bounded queue of entries on their way to a slow tier. Knows no backend, only a `write`."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cache_store.errors import StoreDenied, StoreError
from cache_store.keys import EntryKey

logger = logging.getLogger(__name__)

Write = Callable[[EntryKey, bytes], Awaitable[None]]
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class WriteBackStats:
    """entries, bytes: not yet written. oldest_s: age of the oldest. The rest: since the start."""

    entries: int
    bytes: int
    oldest_s: float
    written: int
    retries: int
    dropped: int


@dataclass(frozen=True, slots=True)
class _Pending:
    key: EntryKey
    entry: bytes
    accepted_s: float


class WriteBack:
    """Writes entries in the background, in order, with bounded memory and bounded retries.

    An entry that finds no room, or fails `tries` times, is dropped and counted: it can be computed
    again. Use from one event loop.
    """

    def __init__(
        self, write: Write, *, max_bytes: int, max_entries: int, workers: int, tries: int
    ) -> None:
        self._write = write
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._max_workers = workers
        self._tries = tries
        self._pending: dict[str, _Pending] = {}
        self._waiting: deque[_Pending] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._written = 0
        self._retries = 0
        self._dropped = 0

    def offer(self, key: EntryKey, entry: bytes) -> bool:
        """Accept the entry for writing; False when there is no room. Never waits."""
        if key.digest in self._pending:
            return True
        if len(self._pending) >= self._max_entries or self._bytes + len(entry) > self._max_bytes:
            self._dropped += 1
            return False
        pending = _Pending(key, entry, time.monotonic())
        self._pending[key.digest] = pending
        self._waiting.append(pending)
        self._bytes += len(entry)
        if len(self._workers) < self._max_workers:
            loop = asyncio.get_running_loop()
            worker = loop.create_task(self._work(), context=contextvars.Context())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return True

    async def close(self, deadline_s: float) -> int:
        """Wait until all is written or the deadline passes; the number of entries dropped then."""
        give_up_s = time.monotonic() + deadline_s
        while self._workers and (left_s := give_up_s - time.monotonic()) > 0:
            await asyncio.wait(set(self._workers), timeout=left_s)
        late = set(self._workers)
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late)
        lost = len(self._pending)
        self._dropped += lost
        self._pending.clear()
        self._waiting.clear()
        self._bytes = 0
        return lost

    def stats(self) -> WriteBackStats:
        oldest = next(iter(self._pending.values()), None)
        return WriteBackStats(
            entries=len(self._pending),
            bytes=self._bytes,
            oldest_s=time.monotonic() - oldest.accepted_s if oldest else 0.0,
            written=self._written,
            retries=self._retries,
            dropped=self._dropped,
        )

    async def _work(self) -> None:
        while self._waiting:
            pending = self._waiting.popleft()
            if await self._write_with_retries(pending):
                self._written += 1
            else:
                self._dropped += 1
            del self._pending[pending.key.digest]
            self._bytes -= len(pending.entry)

    async def _write_with_retries(self, pending: _Pending) -> bool:
        for attempt in range(1, self._tries + 1):
            try:
                await self._write(pending.key, pending.entry)
            except StoreError as error:
                last = attempt == self._tries or isinstance(error, StoreDenied)
                logger.warning(
                    "write-back of %s failed (%d of %d): %s",
                    pending.key.path, attempt, self._tries, error,
                )  # fmt: skip
                if last:
                    return False
            else:
                return True
            self._retries += 1
            longest_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** (attempt - 1))
            await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311 - jitter, not a secret
        return False
