"""Every error that cache_store raises on purpose. None fails a request: it counts as a miss.

CacheError
├── EntryError            bytes that are not the record asked for
│   ├── CorruptEntry      damaged or forged: quarantine it and compute again
│   └── UnreadableEntry   a newer format or an unknown key id: leave it alone, count a miss
├── RecordError           a record that its own schema refuses; nothing is stored
├── StoreError            a backend did not do what it was asked
│   ├── StoreTimeout      no answer within the deadline
│   ├── StoreSkipped      not asked: its breaker is open
│   ├── StoreDenied       credentials or policy refuse (an operator must act)
│   └── StoreForgotten    not written: its clip was removed meanwhile
└── CacheClosed           the cache is shutting down
"""

from __future__ import annotations


class CacheError(Exception):
    """Root of the tree."""


class EntryError(CacheError):
    """Bytes that cannot be used; `reason` is one word for a metric label."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.reason, self.message)


class CorruptEntry(EntryError):
    """Damaged, forged, or another record's bytes."""


class UnreadableEntry(EntryError):
    """Written by a newer version or under a key that this process does not have."""


class RecordError(CacheError):
    """A record contradicts its schema."""


class StoreError(CacheError):
    """A backend failed."""


class StoreTimeout(StoreError):
    """A backend did not answer in time."""


class StoreSkipped(StoreError):
    """A backend was not asked because it keeps failing."""


class StoreDenied(StoreError):
    """A backend refused the credentials or the operation."""


class StoreForgotten(StoreError):
    """An entry was not written because its clip was removed while it was on its way."""


class CacheClosed(CacheError):
    """The cache is closed or closing."""
