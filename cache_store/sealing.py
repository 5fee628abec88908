"""Turns a computed record into an entry: encoded, then decoded as other processes do."""

from __future__ import annotations

import logging
import time

from cache_store.codec import Record, RecordCodec
from cache_store.erasing import FINGERPRINT
from cache_store.errors import EntryError, RecordError
from cache_store.keys import VoiceKey
from cache_store.reading import Entry
from cache_store.stats import Tally

logger = logging.getLogger(__name__)

COMPUTE_S = "cache.compute_s"  # metadata: duration of the computation, which is what a hit saves
CREATED_UNIX_S = "cache.created_unix_s"  # metadata: when it was computed
NAMESPACE = "cache.namespace"  # metadata, for inspection: the key covers it


class EntrySealer:
    """Seals records of one schema. A refused record is counted and has no bytes."""

    def __init__(self, codec: RecordCodec, tally: Tally) -> None:
        self._codec = codec
        self._tally = tally

    def seal(self, key: VoiceKey, record: Record, took_s: float) -> Entry:
        """The record as decoded from its bytes, so that all processes serve the same."""
        metadata = {
            **record.metadata,
            COMPUTE_S: f"{took_s:.6f}",
            CREATED_UNIX_S: f"{time.time():.0f}",
            NAMESPACE: key.namespace,
            FINGERPRINT: key.encoder_fingerprint,
        }
        try:
            data = self._codec.encode(Record(record.arrays, metadata), key.digest)
            return Entry(self._codec.decode(data, key.digest), data)
        except (RecordError, EntryError):
            logger.exception("the computed record for %s is not stored", key.path)
            self._tally.events["refused_records"] += 1
            return Entry(record, None)


def compute_s(record: Record) -> float:
    """Seconds that computing the record took."""
    return float(record.metadata.get(COMPUTE_S, "0"))
