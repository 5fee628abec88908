"""Reads one entry from one tier: verified and counted; every fault is a miss."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

from cache_store.codec import Record, RecordCodec
from cache_store.errors import CorruptEntry, EntryError, StoreSkipped
from cache_store.keys import EntryKey
from cache_store.stats import Tally
from cache_store.threads import off_loop
from cache_store.tier import Tier

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A record with the bytes that its arrays are views of (None when it could not be encoded)."""

    record: Record
    data: bytes | None


class EntryReader:
    """Reads entries of one schema. Every fault is counted and is a miss."""

    def __init__(self, codec: RecordCodec, tally: Tally) -> None:
        self._codec = codec
        self._tally = tally

    async def read(self, tier: Tier, key: EntryKey) -> Entry | None:
        """The tier's verified entry, or None."""
        try:
            data = await tier.get(key)
        except StoreSkipped:
            self._tally.look_up(key, tier.name, "skipped")
            return None
        except Exception as error:  # noqa: BLE001 - a tier's bug must not fail a request either
            logger.warning("%s could not be asked for %s: %r", tier.name, key.path, error)
            self._tally.look_up(key, tier.name, "error")
            return None
        if data is None:
            self._tally.look_up(key, tier.name, "miss")
            return None
        return await self.verify(tier, key, data)

    async def verify(self, tier: Tier, key: EntryKey, data: bytes) -> Entry | None:
        """The tier's entry, verified; a damaged one is rejected and None."""
        try:
            decode = functools.partial(self._codec.decode, data, key.digest)
            record = await off_loop(decode, len(data))
        except EntryError as error:
            is_corrupt = isinstance(error, CorruptEntry)
            self._tally.look_up(key, tier.name, "corrupt" if is_corrupt else "unreadable")
            logger.warning("%s holds an unusable %s: %s", tier.name, key.path, error)
            if is_corrupt:
                tier.reject(key, data)
            return None
        self._tally.look_up(key, tier.name, "hit")
        return Entry(record, data)
