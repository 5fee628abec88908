"""L1: a byte-bounded least-recently-used map in this process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Contents and counters of a memory tier."""

    entries: int
    """Held now."""
    bytes: int
    """Held now."""
    max_bytes: int
    """The budget."""
    evictions: int
    """Since the start."""
    refusals: int
    """Values larger than the whole budget, since the start."""


class MemoryTier(Generic[V]):
    """Least-recently-used values by digest, bounded by stated bytes. Safe from any thread.

    get and put are O(1). A value larger than the whole budget is refused, never half-kept.
    Values are shared between callers: put only read-only ones.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[V, int, str]] = OrderedDict()
        self._bytes = 0
        self._evictions = 0
        self._refusals = 0
        self._lock = threading.Lock()

    def get(self, digest: str) -> V | None:
        """The value, now the most recently used, or None."""
        with self._lock:
            entry = self._entries.get(digest)
            if entry is None:
                return None
            self._entries.move_to_end(digest)
            return entry[0]

    def put(self, digest: str, value: V, size_bytes: int, owner: str = "") -> None:
        """Keep `value`, dropping the least recently used ones to make room.

        owner: what `discard_of` finds it by.
        """
        with self._lock:
            if size_bytes > self._max_bytes:
                self._refusals += 1
                return
            previous = self._entries.pop(digest, None)
            if previous is not None:
                self._bytes -= previous[1]
            self._entries[digest] = (value, size_bytes, owner)
            self._bytes += size_bytes
            while self._bytes > self._max_bytes:
                _, (_, evicted_bytes, _) = self._entries.popitem(last=False)
                self._bytes -= evicted_bytes
                self._evictions += 1

    def discard(self, digest: str) -> bool:
        """Forget one value; False when it was not held."""
        with self._lock:
            entry = self._entries.pop(digest, None)
            if entry is not None:
                self._bytes -= entry[1]
            return entry is not None

    def discard_of(self, owner: str) -> int:
        """Forget every value of an owner and return their number. O(n)."""
        with self._lock:
            theirs = [digest for digest, (_, _, whose) in self._entries.items() if whose == owner]
            for digest in theirs:
                self._bytes -= self._entries.pop(digest)[1]
            return len(theirs)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def stats(self) -> MemoryStats:
        with self._lock:
            return MemoryStats(
                entries=len(self._entries),
                bytes=self._bytes,
                max_bytes=self._max_bytes,
                evictions=self._evictions,
                refusals=self._refusals,
            )
