"""The Protocols for computing a record once in the whole cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from cache_store.keys import EntryKey


class Lease(Protocol):
    """The right to compute one entry. Renewed until released; lapses when its holder dies."""

    def publish(self, entry: bytes) -> None:
        """Release it with an entry, in the background."""
        ...

    def release(self, failure: bytes = b"") -> None:
        """Release it without an entry, in the background. A `failure` means: do not retry."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The entry, the lease to compute it, or its failure; none: another process computes."""

    entry: bytes | None = None
    lease: Lease | None = None
    failure: bytes | None = None
    is_busy: bool = False


class Coordinator(Protocol):
    """A tier that also coordinates computations."""

    async def index_stats(self) -> list[dict[str, Any]]:
        """Counters of each shard of the index. Raises StoreError when a shard cannot be reached."""
        ...

    async def claim(self, key: EntryKey, wait_s: float) -> Claim:
        """Look up and, if absent, lease; waits up to wait_s for another process's computation.

        Raises StoreError when it cannot be reached.
        """
        ...
