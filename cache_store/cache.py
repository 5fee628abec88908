"""VoiceCache: memory, the tiers below it, one computation.

Faults of the cache neither fail a request nor delay it beyond the tiers' deadlines.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from cache_store.aliases import ALIAS_SCHEMA, Alias, AliasBook
from cache_store.claims import Claim, Lease
from cache_store.codec import Record, RecordCodec, RecordSchema
from cache_store.erasures import Erasures, Watch
from cache_store.errors import StoreError, StoreSkipped
from cache_store.failures import FailureCodec, FailureMemory
from cache_store.flight import SingleFlight
from cache_store.keyring import Keyring
from cache_store.keys import AliasKey, ClipKey, RecordKey
from cache_store.memory import MemoryTier
from cache_store.reading import Entry, EntryReader
from cache_store.results import CacheResult, Compute, Meanwhile, SharedTier, TierName
from cache_store.sealing import EntrySealer, compute_s
from cache_store.settings import CacheSettings
from cache_store.stats import CacheStats, Savings, Tally
from cache_store.tier import Tier

__all__ = ["Alias", "CacheResult", "CacheStats", "VoiceCache"]

logger = logging.getLogger(__name__)

MEMORY, COMPUTED = "l1", "miss"
ENTRY_OVERHEAD_BYTES = 3_000  # of an entry's objects in memory, measured
POLL_S = 0.2  # between reads of the tiers while the index is away


class VoiceCache:
    """Records by RecordKey, each computed once at a time. Use it from one event loop.

    shared: the tier that keeps other processes from computing the same record; read before `tiers`.
    failures: which failures are remembered; None remembers none.
    """

    def __init__(
        self,
        schema: RecordSchema,
        tiers: Sequence[Tier],
        settings: CacheSettings,
        keyring: Keyring | None = None,
        *,
        shared: SharedTier | None = None,
        failures: FailureCodec | None = None,
    ) -> None:
        ring = keyring or Keyring()
        self.settings = settings
        self._shared = shared
        self._lower = tuple(tiers)
        self._tiers: tuple[Tier, ...] = self._lower if shared is None else (shared, *tiers)
        self._tally = Tally()
        codec = RecordCodec(schema, ring, max_bytes=settings.max_record_bytes)
        self._reader = EntryReader(codec, self._tally)
        self._sealer = EntrySealer(codec, self._tally)
        self._l1 = MemoryTier[Entry](settings.l1_bytes)
        self._flight = SingleFlight[tuple[Entry, TierName]]()
        self._erasures = Erasures()
        aliases = RecordCodec(ALIAS_SCHEMA, ring, max_bytes=settings.max_record_bytes)
        self._aliases = AliasBook(
            aliases, self._tiers, self._tally, self._erasures, settings.alias_bytes
        )
        self._failure_codec = failures
        self._failures = FailureMemory()

    async def start(self) -> None:
        """Connect the tiers, so that the first request does not wait for it. Reads no records."""
        await asyncio.to_thread(importlib.import_module, "pyarrow")
        await asyncio.gather(*(tier.start() for tier in self._tiers))

    async def close(self) -> None:
        """Finish running computations, then write queued entries; `flush_deadline_s` for each."""
        await self._flight.close(self.settings.flush_deadline_s)
        await asyncio.gather(*(tier.close(self.settings.flush_deadline_s) for tier in self._tiers))

    async def get(self, key: RecordKey) -> CacheResult | None:
        """The record if any tier has it; never computes."""
        entry = self._from_memory(key)
        if entry is not None:
            return CacheResult(entry.record, MEMORY)
        with self._erasures.watch() as watch:
            found = await self._from_tiers(key, self._tiers, watch)
        if found is None:
            return None
        return CacheResult(found[0].record, found[1], is_durable=self._is_durable(found[1]))

    @property
    def shared(self) -> SharedTier | None:
        """Where computations of the cluster are heard of, if this process is in one."""
        return self._shared

    def at_hand(self, key: RecordKey) -> Record | None:
        """The record if this process has it in memory."""
        entry = self._from_memory(key)
        return None if entry is None else entry.record

    def begin_watch(self) -> Watch:
        """As `watch`, for as long as somebody holds it."""
        return self._erasures.begin()

    def watch(self) -> AbstractContextManager[Watch]:
        """A context for one request: entries that `forget` removes meanwhile are not stored again.

        Calls without a watch use one of their own.
        """
        return self._erasures.watch()

    async def get_or_compute(
        self,
        key: RecordKey,
        compute: Compute,
        *,
        durable: bool = False,
        watch: Watch | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> CacheResult:
        """The record from the nearest tier, or from one `compute` shared by concurrent callers.

        compute: runs to completion even when this caller is cancelled, in an empty context (no
        request-local variables).
        durable: return only after a durable tier holds the record; `is_durable` is False when that
        failed.
        meanwhile: awaited, again and again, while another process computes; None only waits.
        Raises the error of `compute`, or the one of the last minute when the failure is permanent.
        Of its own errors the cache raises only CacheClosed, while it closes.
        """
        with self._erasures.watch() as own:
            watch = watch or own
            entry, tier, joined = self._from_memory(key), MEMORY, False
            if entry is None:
                self._raise_if_failed(key)
                (entry, tier), joined = await self._in_flight(key, compute, watch, meanwhile)
                self._tally.events["joined"] += joined
            if not watch.allows(key.owner):
                return CacheResult(entry.record, tier, joined)
            is_durable = self._is_durable(tier)
            if durable and not is_durable and entry.data is not None:
                is_durable = await self._persist(key, entry.data)
            return CacheResult(entry.record, tier, joined, is_durable)

    async def find_alias(self, key: AliasKey) -> Alias | None:
        """The alias of this upload, if it was seen before.

        Raises the failure that `remember_failure` was told of for this upload.
        """
        self._raise_if_failed(key)
        return await self._aliases.find(key)

    def publish_alias(self, key: AliasKey, alias: Alias, watch: Watch | None = None) -> None:
        """Store the alias here at once, and in the tiers in the background."""
        self._aliases.publish(key, alias, watch or Watch())

    def remember_failure(self, key: AliasKey | RecordKey, error: Exception) -> bytes:
        """Remember a failure that the input itself causes, in this process and for a minute.

        Returns the encoded failure; empty when it is of another kind and was not remembered.
        """
        failure = self._failure_codec.encode(error) if self._failure_codec else None
        if failure:
            self._failures.put(key.digest, failure, key.owner)
        return failure or b""

    async def drop(self, key: RecordKey) -> None:
        """Let the record be computed anew; what other processes have in memory stays."""
        self._l1.discard(key.digest)
        for tier in reversed(self._tiers):
            try:
                await tier.drop(key)
            except StoreError as error:
                logger.warning("%s may have kept %s: %s", tier.name, key.path, error)

    async def forget(self, clip: ClipKey) -> None:
        """Remove the clip's records of every encoder, and its aliases, here and in the tiers below.

        Running requests are answered but store nothing. The caller must tell other processes.
        Raises StoreError when a tier may have kept something, after all tiers were asked.
        """
        failed: list[StoreError] = []
        for tier in reversed(self._tiers):  # the farthest first, so that it refills no nearer one
            self._forget_here(clip.owner)
            try:
                await tier.forget(clip)
            except StoreError as error:
                logger.warning("%s may have kept a removed clip: %s", tier.name, error)
                failed.append(error)
        self._forget_here(clip.owner)
        if failed:
            raise failed[0]

    def stats(self) -> CacheStats:
        events = self._tally.events
        return CacheStats(
            requests=dict(self._tally.requests),
            computes=events["computes"],
            compute_failures=events["compute_failures"],
            refused_records=events["refused_records"],
            joined=events["joined"],
            waited=events["waited"],
            saved_s=self._tally.saved_s,
            in_flight=len(self._flight),
            l1=self._l1.stats(),
            alias=self._aliases.stats(),
            tiers={tier.name: tier.stats() for tier in self._tiers},
        )

    def take_savings(self) -> Savings:
        """See Tally.take_savings."""
        return self._tally.take_savings()

    def unhealthy_tiers(self) -> dict[str, str]:
        """Unhealthy tiers by name, each with its reason; the cache works without them."""
        return {name: why for tier in self._tiers for name, why in tier.unhealthy_tiers().items()}

    async def cluster_stats(self) -> list[dict[str, Any]]:
        """Counters of the cluster's index, by shard; empty without an index or while it is away."""
        try:
            return await self._shared.index_stats() if self._shared else []
        except StoreError as error:
            logger.info("the cluster's index does not tell its counts: %s", error)
            return []

    def _forget_here(self, owner: str) -> None:
        """Running work stores nothing of the owner's, and no new caller joins it."""
        self._erasures.erase(owner)
        self._flight.detach(owner)
        self._l1.discard_of(owner)
        self._failures.discard_of(owner)
        self._aliases.discard_of(owner)

    async def _in_flight(
        self, key: RecordKey, compute: Compute, watch: Watch, meanwhile: Meanwhile | None
    ) -> tuple[tuple[Entry, TierName], bool]:
        """Callers whose clip was removed share a computation of their own; it is not stored."""
        if watch.allows(key.owner):
            work = functools.partial(self._find_or_compute, key, compute, watch, meanwhile)
            return await self._flight.run(key.digest, work, key.owner)
        work = functools.partial(self._compute, key, compute, watch)
        return await self._flight.run(f"{key.digest}/not kept", work)

    async def _find_or_compute(
        self, key: RecordKey, compute: Compute, before: Watch, meanwhile: Meanwhile | None
    ) -> tuple[Entry, TierName]:
        """before: the watch of the first caller, older than this task."""
        with self._erasures.watch(before) as watch:
            found, lease = await self._find_or_lease(key, watch, meanwhile)
            if found is not None:
                return found
            try:
                found = await self._from_tiers(key, self._lower, watch)
                found = found or await self._compute(key, compute, watch)
            except BaseException as error:
                failure = b""
                if isinstance(error, Exception) and watch.allows(key.owner):
                    failure = self.remember_failure(key, error)
                if lease is not None:
                    lease.release(failure)
                raise
            data = found[0].data if watch.allows(key.owner) else None
            if lease is not None and data is not None:
                lease.publish(data)
            elif lease is not None:
                lease.release()
            elif data is not None and self._shared is not None:
                self._shared.offer(key, data)
            return found

    async def _find_or_lease(
        self, key: RecordKey, watch: Watch, meanwhile: Meanwhile | None
    ) -> tuple[tuple[Entry, TierName] | None, Lease | None]:
        """The record from the cluster's memory, or the lease to compute it, or neither.

        Waits while another process computes, as long as that process lives. When the index goes
        away meanwhile, waits for its return, or for the record to reach a tier below.
        """
        if self._shared is None:
            return None, None
        give_up_s = time.monotonic() + self.settings.claim_wait_s
        is_waiting = False
        while True:
            claim = await self._claim(self._shared, key, POLL_S if is_waiting else 0.0)
            if claim is not None and not claim.is_busy:
                return await self._settled(self._shared, key, claim, watch)
            if time.monotonic() >= give_up_s or (claim is None and not is_waiting):
                return None, None
            if claim is None:
                found = await self._from_tiers(key, self._lower, watch)
                if found is not None:
                    return found, None
                await asyncio.sleep(POLL_S)
            self._tally.events["waited"] += not is_waiting
            is_waiting = True
            if claim is not None and meanwhile is not None:
                await meanwhile()
                give_up_s = time.monotonic() + self.settings.claim_wait_s

    async def _claim(self, shared: SharedTier, key: RecordKey, wait_s: float) -> Claim | None:
        """The coordinator's answer; None, and counted, when the call fails."""
        try:
            return await shared.claim(key, wait_s)
        except StoreSkipped:
            self._tally.look_up(key, shared.name, "skipped")
        except Exception as error:  # noqa: BLE001 - a tier's bug must not fail a request either
            logger.warning("%s could not be asked for %s: %r", shared.name, key.path, error)
            self._tally.look_up(key, shared.name, "error")
        return None

    async def _settled(
        self, shared: SharedTier, key: RecordKey, claim: Claim, watch: Watch
    ) -> tuple[tuple[Entry, TierName] | None, Lease | None]:
        if claim.failure is not None and self._failure_codec is not None:
            self._tally.look_up(key, shared.name, "negative")
            if watch.allows(key.owner):
                self._failures.put(key.digest, claim.failure, key.owner)
            raise self._failure_codec.decode(claim.failure)
        if claim.entry is None:
            self._tally.look_up(key, shared.name, "miss")
            return None, claim.lease
        entry = await self._reader.verify(shared, key, claim.entry)
        return (None if entry is None else self._keep(key, entry, shared.name, watch)), None

    async def _compute(
        self, key: RecordKey, compute: Compute, watch: Watch
    ) -> tuple[Entry, TierName]:
        self._tally.computed(key)
        started_s = time.perf_counter()
        try:
            record = await compute()
        except BaseException:
            self._tally.events["compute_failures"] += 1
            raise
        entry = await self._sealer.seal(key, record, time.perf_counter() - started_s)
        if entry.data is not None and watch.allows(key.owner):
            self._l1.put(key.digest, entry, len(entry.data) + ENTRY_OVERHEAD_BYTES, key.owner)
            for tier in self._lower:
                tier.offer(key, entry.data)
        return entry, COMPUTED

    def _from_memory(self, key: RecordKey) -> Entry | None:
        entry = self._l1.get(key.digest)
        self._tally.look_up(key, MEMORY, "miss" if entry is None else "hit")
        if entry is not None:
            self._tally.hit(key, compute_s(entry.record))
        return entry

    async def _from_tiers(
        self, key: RecordKey, tiers: Sequence[Tier], watch: Watch
    ) -> tuple[Entry, TierName] | None:
        for position, tier in enumerate(tiers):
            entry = await self._reader.read(tier, key)
            if entry is None or entry.data is None:
                continue
            if watch.allows(key.owner):
                for nearer in tiers[:position]:
                    nearer.offer(key, entry.data)
            return self._keep(key, entry, tier.name, watch)
        return None

    def _keep(
        self, key: RecordKey, entry: Entry, tier: TierName, watch: Watch
    ) -> tuple[Entry, TierName]:
        self._tally.hit(key, compute_s(entry.record))
        if watch.allows(key.owner):
            size_bytes = len(entry.data or b"") + ENTRY_OVERHEAD_BYTES
            self._l1.put(key.digest, entry, size_bytes, key.owner)
        return entry, tier

    def _raise_if_failed(self, key: AliasKey | RecordKey) -> None:
        failure = self._failures.get(key.digest)
        if failure is not None and self._failure_codec is not None:
            self._tally.look_up(key, MEMORY, "negative")
            raise self._failure_codec.decode(failure)

    async def _persist(self, key: RecordKey, data: bytes) -> bool:
        done = False
        for tier in self._tiers:
            if not tier.is_durable:
                continue
            try:
                await tier.put(key, data)
                done = True
            except StoreError as error:
                logger.warning("%s did not take %s: %s", tier.name, key.path, error)
        return done

    def _is_durable(self, tier_name: str) -> bool:
        return any(tier.is_durable for tier in self._tiers if tier.name == tier_name)
