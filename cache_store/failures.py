"""Remembers failures that an input itself causes: it would fail again every time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from cache_store.memory import MemoryTier

REMEMBERED_S = 60.0
_MEMORY_BYTES = 1_000_000  # about 2,000 failures


class FailureCodec(Protocol):
    """Tells which failures the input itself causes, and encodes them for other processes.

    Never by pickle: the bytes may come from another version of this program.
    """

    def encode(self, error: Exception) -> bytes | None:
        """The failure in a few hundred bytes; None when a retry might succeed."""
        ...

    def decode(self, failure: bytes) -> Exception:
        """The failure to raise again."""
        ...


@dataclass(frozen=True, slots=True)
class _Remembered:
    failure: bytes
    until_s: float


class FailureMemory:
    """Failures by digest for a minute, in this process."""

    def __init__(self) -> None:
        self._memory = MemoryTier[_Remembered](_MEMORY_BYTES)

    def get(self, digest: str) -> bytes | None:
        found = self._memory.get(digest)
        if found is not None and found.until_s <= time.monotonic():
            self._memory.discard(digest)
            return None
        return found.failure if found else None

    def put(self, digest: str, failure: bytes, owner: str) -> None:
        until_s = time.monotonic() + REMEMBERED_S
        self._memory.put(digest, _Remembered(failure, until_s), 200 + len(failure), owner)

    def discard_of(self, owner: str) -> None:
        """Forget what failed with the owner's clip."""
        self._memory.discard_of(owner)
