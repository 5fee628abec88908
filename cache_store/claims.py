"""The seam for computing something once in the whole cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from cache_store.keys import EntryKey


class Lease(Protocol):
    """The right to compute one entry, kept alive until it ends; its holder's death ends it too."""

    def publish(self, entry: bytes) -> None:
        """End it with an entry, in the background."""
        ...

    def release(self, failure: bytes = b"") -> None:
        """End it without one, in the background; `failure` says that trying again is useless."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """One of: the entry, the lease to compute it, its failure, or "another one is at it"."""

    entry: bytes | None = None
    lease: Lease | None = None
    failure: bytes | None = None
    is_busy: bool = False


class Coordinator(Protocol):
    """A tier that also says who computes."""

    async def index_stats(self) -> list[dict[str, Any]]:
        """What each shard of its index counts. Raises StoreError when one cannot be reached."""
        ...

    async def claim(self, key: EntryKey, wait_s: float) -> Claim:
        """Look up and, if absent, lease; waits up to wait_s for another one's work.

        Raises StoreError when it cannot be reached.
        """
        ...
