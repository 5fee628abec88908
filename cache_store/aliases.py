"""Alias records: upload digest → clip digest, in memory and in the tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache_store.codec import FieldSpec, Record, RecordCodec, RecordSchema
from cache_store.erasures import Erasures, Watch
from cache_store.errors import RecordError
from cache_store.flight import SingleFlight
from cache_store.keys import AliasKey
from cache_store.memory import MemoryStats, MemoryTier
from cache_store.notes import CLIP
from cache_store.reading import EntryReader
from cache_store.stats import Tally
from cache_store.tier import Tier

_WARNINGS = "warnings"  # in a record's metadata, comma-separated


def _check_warnings(record: Record) -> None:
    if _WARNINGS not in record.metadata:
        raise RecordError("the alias has no warnings, not even none")


ALIAS_SCHEMA = RecordSchema(
    "alias",
    2,
    (
        FieldSpec("clip", "uint8", (32,)),
        FieldSpec("duration_s", "float64", (1,), minimum=0.0),
    ),
    check=_check_warnings,
)
_MEMORY_BYTES = 520  # what an Alias costs in memory, with its strings and map slots


@dataclass(frozen=True, slots=True)
class Alias:
    """What an upload decodes to."""

    clip_digest: str
    """Hex digest of the decoded clip."""
    duration_s: float
    """Length of the decoded clip."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the upload, in words without a comma."""


class AliasBook:
    """Aliases by key. The entry of the clip is verified like any other."""

    def __init__(
        self,
        codec: RecordCodec,
        tiers: Sequence[Tier],
        tally: Tally,
        erasures: Erasures,
        max_bytes: int,
    ) -> None:
        self._codec = codec
        self._tiers = tiers
        self._tally = tally
        self._erasures = erasures
        self._reader = EntryReader(codec, tally)
        self._memory = MemoryTier[Alias](max_bytes)
        self._flight = SingleFlight[Alias | None]()

    async def find(self, key: AliasKey) -> Alias | None:
        alias = self._memory.get(key.digest)
        self._tally.look_up(key, "l1", "miss" if alias is None else "hit")
        if alias is None:
            alias, _ = await self._flight.run(key.digest, lambda: self._from_tiers(key))
        return alias

    def publish(self, key: AliasKey, alias: Alias, watch: Watch) -> None:
        """Keep the alias here and in the tiers, unless its clip was removed during `watch`."""
        key = key.leading_to(alias.clip_digest)
        if not watch.allows(key.owner):
            return
        self._memory.put(key.digest, alias, _MEMORY_BYTES, key.owner)
        arrays = {
            "clip": np.frombuffer(bytes.fromhex(alias.clip_digest), np.uint8),
            "duration_s": np.array([alias.duration_s], np.float64),
        }
        metadata = {CLIP: alias.clip_digest, _WARNINGS: ",".join(alias.warnings)}
        data = self._codec.encode(Record(arrays, metadata), key.digest)
        for tier in self._tiers:
            tier.offer(key, data)

    def discard_of(self, owner: str) -> None:
        """Forget the aliases of the owner's clip in this process."""
        self._memory.discard_of(owner)

    def stats(self) -> MemoryStats:
        return self._memory.stats()

    async def _from_tiers(self, key: AliasKey) -> Alias | None:
        with self._erasures.watch() as watch:
            for position, tier in enumerate(self._tiers):
                entry = await self._reader.read(tier, key)
                if entry is None or entry.data is None:
                    continue
                alias = _to_alias(entry.record)
                key = key.leading_to(alias.clip_digest)
                if watch.allows(key.owner):
                    self._memory.put(key.digest, alias, _MEMORY_BYTES, key.owner)
                    for nearer in self._tiers[:position]:
                        nearer.offer(key, entry.data)
                return alias
        return None


def _to_alias(record: Record) -> Alias:
    warnings = record.metadata[_WARNINGS]
    return Alias(
        record.arrays["clip"].tobytes().hex(),
        float(record.arrays["duration_s"][0]),
        tuple(warnings.split(",")) if warnings else (),
    )
