"""The seam between VoiceCache and everything below its process memory, and L3 as such a tier."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Protocol, TypeVar

from cache_store.errors import StoreError, StoreTimeout
from cache_store.keys import EntryKey, digest
from cache_store.persistent import BlobStore
from cache_store.settings import CacheSettings
from cache_store.writeback import WriteBack

logger = logging.getLogger(__name__)

T = TypeVar("T")
WARM_UP_DEADLINE_S = 10.0  # importing an S3 client takes over a second on a busy machine
_ABSENT = "v1/" + digest("warm-up")


class Tier(Protocol):
    """Entries (unverified bytes) by key. Never blocks the loop, never outlasts its deadline.

    Raises StoreError for whatever the tier could not do; the caller counts it and goes on.
    """

    @property
    def name(self) -> str:
        """What metrics and `X-Cache` call it: l2, l3."""
        ...

    @property
    def is_durable(self) -> bool:
        """An entry in it survives the cluster."""
        ...

    async def start(self) -> None:
        """Make ready what would make a first request slow."""
        ...

    async def get(self, key: EntryKey) -> bytes | None:
        """The entry, or None when the tier does not have it."""
        ...

    def offer(self, key: EntryKey, entry: bytes) -> None:
        """Publish in the background, if there is room."""
        ...

    async def put(self, key: EntryKey, entry: bytes) -> None:
        """Publish now; there when it returns."""
        ...

    async def reject(self, key: EntryKey, entry: bytes) -> None:
        """The entry turned out damaged: take it out of the way."""
        ...

    async def delete(self, key: EntryKey) -> None:
        """Remove; absent is fine."""
        ...

    async def close(self, deadline_s: float) -> None:
        """Write what was offered, as far as the deadline allows, and stop."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Numbers for metrics."""
        ...


class PersistentTier:
    """L3: a blocking BlobStore behind threads of its own and a deadline on every wait.

    Reads and writes have separate threads, so that a backend that swallows writes does not delay
    reads.
    """

    name = "l3"
    is_durable = True

    def __init__(self, store: BlobStore, settings: CacheSettings) -> None:
        self._store = store
        self._max_bytes = settings.max_record_bytes
        self._read_deadline_s = settings.l3_read_deadline_s
        self._write_deadline_s = settings.l3_write_deadline_s
        self._readers = ThreadPoolExecutor(settings.io_threads, "cache-read")
        self._writers = ThreadPoolExecutor(settings.writeback_workers, "cache-write")
        self._writeback = WriteBack(
            self.put,
            max_bytes=settings.writeback_bytes,
            max_entries=settings.writeback_entries,
            workers=settings.writeback_workers,
            tries=settings.writeback_tries,
        )

    async def start(self) -> None:
        """Import and connect the client; a backend that is down is reported, not raised."""
        try:
            await self._run(self._readers, WARM_UP_DEADLINE_S, lambda: self._store.get(_ABSENT, 0))
        except StoreError as error:
            logger.warning("the cache's store does not answer, going on without it: %s", error)

    async def get(self, key: EntryKey) -> bytes | None:
        path = key.path
        return await self._run(
            self._readers, self._read_deadline_s, lambda: self._store.get(path, self._max_bytes)
        )

    def offer(self, key: EntryKey, entry: bytes) -> None:
        self._writeback.offer(key, entry)

    async def put(self, key: EntryKey, entry: bytes) -> None:
        path = key.path
        await self._run(
            self._writers, self._write_deadline_s, lambda: self._store.create(path, entry)
        )

    async def reject(self, key: EntryKey, entry: bytes) -> None:
        path = key.path
        await self._run(
            self._writers, self._write_deadline_s, lambda: self._store.quarantine(path, entry)
        )

    async def delete(self, key: EntryKey) -> None:
        path = key.path
        await self._run(self._writers, self._write_deadline_s, lambda: self._store.delete(path))

    async def close(self, deadline_s: float) -> None:
        lost = await self._writeback.close(deadline_s)
        if lost:
            logger.warning("closed with %d records not written; they will be computed again", lost)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writers.shutdown(wait=False, cancel_futures=True)

    def stats(self) -> Mapping[str, float]:
        return {
            f"writeback_{name}": value for name, value in asdict(self._writeback.stats()).items()
        }

    async def _run(self, pool: ThreadPoolExecutor, deadline_s: float, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline_s):
                return await loop.run_in_executor(pool, call)
        except TimeoutError as error:
            raise StoreTimeout(f"no answer within {deadline_s} s") from error
        except RuntimeError as error:  # the pool is shut down
            raise StoreError(str(error)) from error
