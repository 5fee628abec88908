"""L3 as a tier: a store behind threads of its own, deadlines and breakers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict

from cache_store.background import spawn
from cache_store.breaker import Breaker, BreakerPolicy
from cache_store.erasing import ClipEraser
from cache_store.erasures import Erasures, Watch
from cache_store.errors import StoreError, StoreForgotten
from cache_store.housekeeping import Housekeeper
from cache_store.keyring import Keyring
from cache_store.keys import ClipKey, EntryKey
from cache_store.notes import note_path
from cache_store.settings import CacheSettings
from cache_store.store import BlobStore
from cache_store.threads import StoreThreads
from cache_store.writeback import WriteBack

logger = logging.getLogger(__name__)

ERASING_THREADS = 2  # separate: a hanging write must not delay a removal
WARM_UP_DEADLINE_S = 10.0  # importing an S3 client takes over a second on a busy machine
MASS_REJECTIONS = 20  # a minute: more suggests a bad deploy, not damage; stop quarantining
_ABSENT = "v1/.absent"
_PROBE = "v1/.probe"


class PersistentTier:
    """L3: a blocking BlobStore behind threads of its own, a deadline on every wait, and breakers.

    Reads and writes have separate threads and breakers, so that a backend that hangs on writes does
    not delay reads, and one that only refuses them still serves.
    """

    name = "l3"
    is_durable = True

    def __init__(
        self,
        store: BlobStore,
        settings: CacheSettings,
        policy: BreakerPolicy | None = None,
        housekeeper: Housekeeper | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self._store = store
        self._housekeeper = housekeeper
        self._max_bytes = settings.max_record_bytes
        self._read_deadline_s = settings.l3_read_deadline_s
        self._write_deadline_s = settings.l3_write_deadline_s
        self._readers = StoreThreads(settings.io_threads, "cache-read")
        self._writers = StoreThreads(settings.writeback_workers, "cache-write")
        self._erasers = StoreThreads(ERASING_THREADS, "cache-erase")
        self._eraser = ClipEraser(store, keyring or Keyring(), settings.max_record_bytes)
        self._erasures = Erasures()
        self._reading = Breaker("reading from the cache's store", self._probe_read, policy)
        self._writing = Breaker("writing to the cache's store", self._probe_write, policy)
        self._rejections: dict[str, asyncio.Task[None]] = {}
        self._rejected_s: deque[float] = deque(maxlen=MASS_REJECTIONS)
        self._quarantined = 0
        self._writeback = WriteBack(
            self.put,
            max_bytes=settings.writeback_bytes,
            max_entries=settings.writeback_entries,
            workers=settings.writeback_workers,
            tries=settings.writeback_tries,
            ready=self._writing.wait_closed,
        )

    async def start(self) -> None:
        """Import and connect the client; an unreachable backend is logged, not raised."""
        try:
            await self._readers.run(WARM_UP_DEADLINE_S, lambda: self._store.get(_ABSENT, 0))
        except StoreError as error:
            logger.warning("the cache's store does not answer, going on without it: %s", error)
        if self._housekeeper is not None:
            self._housekeeper.start()

    async def get(self, key: EntryKey) -> bytes | None:
        path = key.path
        self._eraser.see(key)
        async with self._reading.guard():
            return await self._readers.run(
                self._read_deadline_s, lambda: self._store.get(path, self._max_bytes)
            )

    def offer(self, key: EntryKey, entry: bytes) -> None:
        self._writeback.offer(key, entry)

    async def put(self, key: EntryKey, entry: bytes) -> None:
        self._eraser.see(key)
        with self._erasures.watch() as watch:
            rejection = self._rejections.get(key.digest)
            if rejection is not None:
                await asyncio.wait([rejection])  # until then the damaged object holds the name
            async with self._writing.guard():
                is_written = await self._writers.run(
                    self._write_deadline_s, lambda: self._create(key, entry, watch), key.owner
                )
        if not is_written:
            raise StoreForgotten(f"the clip of {key.path} was removed meanwhile")

    def reject(self, key: EntryKey, entry: bytes) -> None:
        now_s = time.monotonic()
        self._rejected_s.append(now_s)
        if len(self._rejected_s) == MASS_REJECTIONS and self._rejected_s[0] > now_s - 60:
            logger.error("over %d damaged records a minute: leaving them in place", MASS_REJECTIONS)
            return
        if key.digest in self._rejections:
            return
        task = spawn("setting a damaged record aside", self._quarantine(key, entry))
        self._rejections[key.digest] = task
        task.add_done_callback(lambda _: self._rejections.pop(key.digest))

    async def drop(self, key: EntryKey) -> None:
        path = key.path
        self._writeback.forget_key(key)
        await self._writers.settle(key.owner, self._write_deadline_s)
        async with self._writing.guard():
            await self._erasers.run(self._write_deadline_s, lambda: self._store.delete(path))

    async def forget(self, clip: ClipKey) -> None:
        """Not guarded by the breakers: a removal asks an unhealthy store too."""
        owner = clip.owner
        self._erasures.erase(owner)
        self._writeback.forget(owner)
        if self._rejections:
            await asyncio.wait(set(self._rejections.values()))
        await self._writers.settle(owner, self._write_deadline_s)
        await self._erasers.run(self._write_deadline_s, lambda: self._eraser.erase(clip))

    async def close(self, deadline_s: float) -> None:
        lost = await self._writeback.close(deadline_s)
        if lost:
            logger.warning("closed with %d records not written; they will be computed again", lost)
        if self._housekeeper is not None:
            await self._housekeeper.close()
        await self._reading.close()
        await self._writing.close()
        for threads in (self._readers, self._writers, self._erasers):
            threads.shutdown()

    def stats(self) -> Mapping[str, float]:
        queue = asdict(self._writeback.stats())
        return {
            "read_breaker": int(self._reading.state),
            "write_breaker": int(self._writing.state),
            "breaker_openings": self._reading.openings + self._writing.openings,
            "quarantined": self._quarantined,
            "collected": self._housekeeper.deleted if self._housekeeper else 0,
            **{f"writeback_{name}": value for name, value in queue.items()},
        }

    def unhealthy_tiers(self) -> Mapping[str, str]:
        breakers = {"l3 reading": self._reading, "l3 writing": self._writing}
        return {name: one.reason for name, one in breakers.items() if one.state}

    def _create(self, key: EntryKey, entry: bytes, watch: Watch) -> bool:
        """In a thread. Returns False and writes nothing when the clip was removed meanwhile."""
        if not watch.allows(key.owner):
            return False
        note = note_path(key)
        if note is not None:
            self._store.create(note, b"")
        self._store.create(key.path, entry)
        return True

    async def _quarantine(self, key: EntryKey, entry: bytes) -> None:
        """Not guarded by the breaker: a replica without the right to delete may still write."""
        path = key.path
        try:
            await self._writers.run(
                self._write_deadline_s, lambda: self._store.quarantine(path, entry), key.owner
            )
        except StoreError as error:
            logger.warning("could not quarantine %s: %s", path, error)
        else:
            self._quarantined += 1

    async def _probe_read(self) -> None:
        await self._readers.run(self._read_deadline_s, lambda: self._store.get(_ABSENT, 0))

    async def _probe_write(self) -> None:
        await self._writers.run(self._write_deadline_s, lambda: self._store.create(_PROBE, b""))
