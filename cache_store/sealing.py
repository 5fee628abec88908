"""Turns a computed record into an entry: encoded, then decoded as other processes do."""

from __future__ import annotations

import functools
import logging
import time

from cache_store.codec import Record, RecordCodec
from cache_store.errors import EntryError, RecordError
from cache_store.keys import RecordKey
from cache_store.reading import Entry
from cache_store.stats import Tally
from cache_store.threads import off_loop

logger = logging.getLogger(__name__)

COMPUTE_S = "cache.compute_s"  # metadata: duration of the computation, which is what a hit saves
CREATED_UNIX_S = "cache.created_unix_s"  # metadata: when it was computed
NAMESPACE = "cache.namespace"  # metadata, for inspection: the key covers it


class EntrySealer:
    """Seals records of one schema. A refused record is counted and has no bytes."""

    def __init__(self, codec: RecordCodec, tally: Tally) -> None:
        self._codec = codec
        self._tally = tally

    async def seal(self, key: RecordKey, record: Record, took_s: float) -> Entry:
        """The record as decoded from its bytes, so that all processes serve the same."""
        metadata = {
            **record.metadata,
            **key.labels,
            COMPUTE_S: f"{took_s:.6f}",
            CREATED_UNIX_S: f"{time.time():.0f}",
            NAMESPACE: key.namespace,
        }
        labelled = Record(record.arrays, metadata)
        try:
            work = functools.partial(self._entry, labelled, key.digest)
            return await off_loop(work, labelled.array_bytes)
        except (RecordError, EntryError):
            logger.exception("the computed record for %s is not stored", key.path)
            self._tally.events["refused_records"] += 1
            return Entry(record, None)

    def _entry(self, record: Record, digest: str) -> Entry:
        data = self._codec.encode(record, digest)
        return Entry(self._codec.decode(data, digest), data)


def compute_s(record: Record) -> float:
    """Seconds that computing the record took."""
    return float(record.metadata.get(COMPUTE_S, "0"))
