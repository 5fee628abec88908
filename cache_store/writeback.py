"""A bounded queue of entries on their way to a slow tier."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cache_store.background import spawn
from cache_store.errors import StoreDenied, StoreError, StoreForgotten, StoreSkipped
from cache_store.keys import EntryKey

logger = logging.getLogger(__name__)

Ready = Callable[[], Awaitable[None]]
Write = Callable[[EntryKey, bytes], Awaitable[None]]
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class WriteBackStats:
    """State and counters of a write-back queue; counters run since the start."""

    entries: int
    """Not yet written."""
    bytes: int
    """Not yet written."""
    oldest_s: float
    """Age of the oldest entry that is not yet written."""
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

    ready: returns when writing can succeed; nothing is written before. An entry that finds no room,
    or fails `tries` times, is dropped and counted: it can be computed again. Refusals and an open
    breaker, which `ready` waits for, do not count as tries. Use from one event loop.
    """

    def __init__(
        self,
        write: Write,
        *,
        max_bytes: int,
        max_entries: int,
        workers: int,
        tries: int,
        ready: Ready | None = None,
    ) -> None:
        self._write = write
        self._ready = ready
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
            worker = spawn("writing back", self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return True

    def forget(self, owner: str) -> None:
        """Drop the owner's entries; a write that runs now is not retried."""
        self._withdraw([one for one in self._pending.values() if one.key.owner == owner])

    def forget_key(self, key: EntryKey) -> None:
        """Drop one entry; a write that runs now is not retried."""
        self._withdraw([one for one in self._pending.values() if one.key.digest == key.digest])

    async def close(self, deadline_s: float) -> int:
        """Write until the queue is empty or the deadline passes; the number of entries dropped."""
        give_up_s = time.monotonic() + deadline_s
        while self._workers and (left_s := give_up_s - time.monotonic()) > 0:
            await asyncio.wait(set(self._workers), timeout=left_s)
        late = set(self._workers)
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late)
        unseen = len(self._waiting)
        self._dropped += unseen
        self._pending.clear()
        self._waiting.clear()
        self._bytes = 0
        return unseen + len(late)

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
            is_written = False
            try:
                is_written = await self._write_with_retries(pending)
            except Exception:  # a bug in a store must not stop the queue
                logger.exception("write-back of %s", pending.key.path)
            finally:
                self._written += is_written
                if self._is_wanted(pending):
                    self._dropped += not is_written
                    self._let_go(pending)

    def _withdraw(self, unwanted: Sequence[_Pending]) -> None:
        for pending in unwanted:
            self._let_go(pending)
        self._waiting = deque(one for one in self._waiting if self._is_wanted(one))

    def _is_wanted(self, pending: _Pending) -> bool:
        """Whether this very offer was not forgotten; a later one of the same key is another."""
        return self._pending.get(pending.key.digest) is pending

    def _let_go(self, pending: _Pending) -> None:
        del self._pending[pending.key.digest]
        self._bytes -= len(pending.entry)

    async def _write_with_retries(self, pending: _Pending) -> bool:
        failures = 0
        while True:
            if self._ready is not None:
                await self._ready()
            if not self._is_wanted(pending):
                return False
            try:
                await self._write(pending.key, pending.entry)
            except StoreForgotten:
                return False
            except (StoreSkipped, StoreDenied) as error:
                if self._ready is None:
                    logger.warning("write-back of %s refused: %s", pending.key.path, error)
                    return False
            except StoreError as error:
                failures += 1
                path = pending.key.path
                logger.warning(
                    "write-back of %s: try %d of %d: %s", path, failures, self._tries, error
                )
                if failures == self._tries:
                    return False
            else:
                return True
            self._retries += 1
            longest_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**failures)
            await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311 - jitter
