"""VoiceCache: memory, the tiers below it, one computation. Knows no backend, HTTP or model.

The rule of this module: nothing that goes wrong in the cache fails a request or delays it beyond
the tiers' deadlines.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from cache_store.codec import FieldSpec, Record, RecordCodec, RecordSchema
from cache_store.errors import CorruptEntry, EntryError, RecordError, StoreError
from cache_store.flight import SingleFlight
from cache_store.keyring import Keyring
from cache_store.keys import AliasKey, EntryKey, VoiceKey
from cache_store.memory import MemoryStats, MemoryTier
from cache_store.persistent import open_store
from cache_store.settings import CacheSettings
from cache_store.tier import PersistentTier, Tier

logger = logging.getLogger(__name__)

TierName = Literal["l1", "l2", "l3", "miss"]
Compute = Callable[[], Awaitable[Record]]

COMPUTE_S = "cache.compute_s"  # metadata: seconds the computation took, hence what a hit saves
CREATED_UNIX_S = "cache.created_unix_s"  # metadata: when it was computed
NAMESPACE = "cache.namespace"  # metadata, for inspection: the key covers it

ALIAS_SCHEMA = RecordSchema(
    "alias",
    1,
    (
        FieldSpec("clip", "uint8", (32,)),
        FieldSpec("duration_s", "float64", (1,), minimum=0.0),
    ),
)
_ALIAS_OVERHEAD_BYTES = (
    400  # what an Alias costs in memory, measured with its strings and map slots
)


@dataclass(frozen=True, slots=True)
class Alias:
    """What an upload decodes to. clip: hex digest, from `clip_key`. duration_s: its length."""

    clip: str
    duration_s: float


@dataclass(frozen=True, slots=True, eq=False)
class CacheResult:
    """A record and where it came from.

    record: read-only arrays, shared with other requests. tier: what answered; `miss` means it was
    computed.
    joined: this request waited for another one's computation. is_durable: known to be in a durable
    tier by now.
    """

    record: Record
    tier: TierName
    joined: bool = False
    is_durable: bool = False


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start and sizes now.

    requests: look-ups by (kind, tier, result); kind voice or alias; result hit, miss, error,
    corrupt or unreadable.
    joined: requests that waited for a running computation. saved_s: what the hits would have cost
    to compute.
    refused_records: computed records that their schema refused. in_flight: computations running
    now.
    tiers: numbers of the tiers below memory, by name.
    """

    requests: Mapping[tuple[str, str, str], int]
    computes: int
    compute_failures: int
    refused_records: int
    joined: int
    saved_s: float
    in_flight: int
    l1: MemoryStats
    alias: MemoryStats
    tiers: Mapping[str, Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: requests nest as kind → tier → result."""
        requests: dict[str, dict[str, dict[str, int]]] = {}
        for (kind, tier, result), count in sorted(self.requests.items()):
            requests.setdefault(kind, {}).setdefault(tier, {})[result] = count
        return {**asdict(self), "requests": requests}


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A record with the bytes that its arrays are views of (None when it could not be encoded)."""

    record: Record
    data: bytes | None


class VoiceCache:
    """Records by VoiceKey, each computed once at a time. Use it from one event loop."""

    def __init__(
        self,
        schema: RecordSchema,
        tiers: Sequence[Tier],
        settings: CacheSettings,
        keyring: Keyring | None = None,
    ) -> None:
        ring = keyring or Keyring()
        self.settings = settings
        self._tiers = tuple(tiers)
        self._voices = RecordCodec(schema, ring, max_bytes=settings.max_record_bytes)
        self._notes = RecordCodec(ALIAS_SCHEMA, ring, max_bytes=settings.max_record_bytes)
        self._l1 = MemoryTier[_Entry](settings.l1_bytes)
        self._aliases = MemoryTier[Alias](settings.alias_bytes)
        self._flight = SingleFlight[tuple[_Entry, TierName]]()
        self._alias_flight = SingleFlight[Alias | None]()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._counts: Counter[str] = Counter()
        self._saved_s = 0.0

    async def start(self) -> None:
        """Load what a first request would wait for. Reads no records: they are found by key."""
        await asyncio.to_thread(importlib.import_module, "pyarrow")
        await asyncio.gather(*(tier.start() for tier in self._tiers))

    async def close(self) -> None:
        """Finish running computations and write what is queued, within `flush_deadline_s` each."""
        await self._flight.close(self.settings.flush_deadline_s)
        await asyncio.gather(*(tier.close(self.settings.flush_deadline_s) for tier in self._tiers))

    async def get(self, key: VoiceKey) -> CacheResult | None:
        """The record if any tier has it; never computes."""
        entry = self._from_memory(key)
        if entry is not None:
            return CacheResult(entry.record, "l1")
        found = await self._from_tiers(key)
        if found is None:
            return None
        return CacheResult(found[0].record, found[1], is_durable=self._is_durable(found[1]))

    async def get_or_compute(
        self, key: VoiceKey, compute: Compute, *, durable: bool = False
    ) -> CacheResult:
        """The record from the nearest tier, or from one `compute` shared by all who ask meanwhile.

        compute: runs to its end even when this caller goes away, in an empty context (no
        request-local variables).
        durable: answer only after a durable tier has the record; `is_durable` is False when that
        failed.
        Raises what `compute` raises; the cache itself raises nothing.
        """
        entry, tier, joined = self._from_memory(key), "l1", False
        if entry is None:
            (entry, tier), joined = await self._flight.run(
                key.digest, lambda: self._find_or_compute(key, compute)
            )
            self._counts["joined"] += joined
        is_durable = self._is_durable(tier)
        if durable and not is_durable and entry.data is not None:
            is_durable = await self._persist(key, entry.data)
        return CacheResult(entry.record, tier, joined, is_durable)

    async def find_alias(self, key: AliasKey) -> Alias | None:
        """What this upload decodes to, if it was seen before."""
        alias = self._aliases.get(key.digest)
        self._count(key, "l1", "miss" if alias is None else "hit")
        if alias is not None:
            return alias
        alias, _ = await self._alias_flight.run(key.digest, lambda: self._alias_from_tiers(key))
        return alias

    def publish_alias(self, key: AliasKey, alias: Alias) -> None:
        """Remember what this upload decodes to, here at once and elsewhere soon."""
        self._aliases.put(key.digest, alias, _ALIAS_OVERHEAD_BYTES)
        arrays = {
            "clip": np.frombuffer(bytes.fromhex(alias.clip), np.uint8),
            "duration_s": np.array([alias.duration_s], np.float64),
        }
        data = self._notes.encode(Record(arrays, {NAMESPACE: key.namespace}), key.digest)
        for tier in self._tiers:
            tier.offer(key, data)

    async def discard(self, key: VoiceKey) -> None:
        """Remove the record here and in the tiers below. Raises StoreError when a tier kept it."""
        self._l1.discard(key.digest)
        for tier in self._tiers:
            await tier.delete(key)

    def stats(self) -> CacheStats:
        return CacheStats(
            requests=dict(self._requests),
            computes=self._counts["computes"],
            compute_failures=self._counts["compute_failures"],
            refused_records=self._counts["refused_records"],
            joined=self._counts["joined"],
            saved_s=self._saved_s,
            in_flight=len(self._flight),
            l1=self._l1.stats(),
            alias=self._aliases.stats(),
            tiers={tier.name: tier.stats() for tier in self._tiers},
        )

    async def _find_or_compute(self, key: VoiceKey, compute: Compute) -> tuple[_Entry, TierName]:
        found = await self._from_tiers(key)
        if found is not None:
            return found
        self._counts["computes"] += 1
        started_s = time.perf_counter()
        try:
            record = await compute()
        except BaseException:
            self._counts["compute_failures"] += 1
            raise
        entry = self._seal(key, record, time.perf_counter() - started_s)
        if entry.data is not None:
            self._l1.put(key.digest, entry, len(entry.data))
            for tier in self._tiers:
                tier.offer(key, entry.data)
        return entry, "miss"

    def _from_memory(self, key: VoiceKey) -> _Entry | None:
        entry = self._l1.get(key.digest)
        self._count(key, "l1", "miss" if entry is None else "hit")
        if entry is not None:
            self._saved_s += _compute_s(entry.record)
        return entry

    async def _from_tiers(self, key: VoiceKey) -> tuple[_Entry, TierName] | None:
        for position, tier in enumerate(self._tiers):
            entry = await self._read(tier, key, self._voices)
            if entry is None or entry.data is None:
                continue
            self._saved_s += _compute_s(entry.record)
            self._l1.put(key.digest, entry, len(entry.data))
            for nearer in self._tiers[:position]:
                nearer.offer(key, entry.data)
            return entry, "l2" if tier.name == "l2" else "l3"
        return None

    async def _alias_from_tiers(self, key: AliasKey) -> Alias | None:
        for tier in self._tiers:
            found = await self._read(tier, key, self._notes)
            if found is not None:
                arrays = found.record.arrays
                alias = Alias(arrays["clip"].tobytes().hex(), float(arrays["duration_s"][0]))
                self._aliases.put(key.digest, alias, _ALIAS_OVERHEAD_BYTES)
                return alias
        return None

    async def _read(self, tier: Tier, key: EntryKey, codec: RecordCodec) -> _Entry | None:
        """A verified entry of one tier; whatever goes wrong is counted and is a miss."""
        try:
            data = await tier.get(key)
        except Exception as error:  # noqa: BLE001 - a tier's bug must not fail a request either
            logger.warning("%s could not be asked for %s: %r", tier.name, key.path, error)
            self._count(key, tier.name, "error")
            return None
        if data is None:
            self._count(key, tier.name, "miss")
            return None
        try:
            record = codec.decode(data, key.digest)
        except EntryError as error:
            await self._report_bad(tier, key, data, error)
            return None
        self._count(key, tier.name, "hit")
        return _Entry(record, data)

    async def _report_bad(self, tier: Tier, key: EntryKey, data: bytes, error: EntryError) -> None:
        is_corrupt = isinstance(error, CorruptEntry)
        self._count(key, tier.name, "corrupt" if is_corrupt else "unreadable")
        logger.warning("%s holds an unusable %s: %s", tier.name, key.path, error)
        if not is_corrupt:
            return
        try:
            await tier.reject(key, data)
        except StoreError as failure:
            logger.warning("%s could not quarantine %s: %s", tier.name, key.path, failure)

    def _seal(self, key: VoiceKey, record: Record, compute_s: float) -> _Entry:
        """Encode and read back: what this process serves is what every other one will read."""
        metadata = {
            **record.metadata,
            COMPUTE_S: f"{compute_s:.6f}",
            CREATED_UNIX_S: f"{time.time():.0f}",
            NAMESPACE: key.namespace,
        }
        try:
            data = self._voices.encode(Record(record.arrays, metadata), key.digest)
            return _Entry(self._voices.decode(data, key.digest), data)
        except (RecordError, EntryError):
            logger.exception("the computed record for %s is not stored", key.path)
            self._counts["refused_records"] += 1
            return _Entry(record, None)

    async def _persist(self, key: VoiceKey, data: bytes) -> bool:
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

    def _count(self, key: EntryKey, tier: str, result: str) -> None:
        kind = "alias" if isinstance(key, AliasKey) else "voice"
        self._requests[kind, tier, result] += 1


def open_cache(settings: CacheSettings, schema: RecordSchema) -> VoiceCache:
    """The cache that the settings describe. Contacts nothing before `start`.

    Raises ValueError or OSError when the keys of the entry digest cannot be read.
    """
    keyring = Keyring.load(file=settings.mac_keys_file, env=settings.mac_keys_env)
    store = open_store(settings)
    tiers = [] if store is None else [PersistentTier(store, settings)]
    return VoiceCache(schema, tiers, settings, keyring)


def _compute_s(record: Record) -> float:
    return float(record.metadata.get(COMPUTE_S, "0"))
