"""The seam for computing something once in the whole cluster. Knows no Ray and no index."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What another process has made of an entry so far.

    data: its bytes from where was asked. note: what their maker says of them. is_whole: none
    follows these. is_live: somebody is at it; when not, a claim tells what came of it.
    """

    data: bytes = b""
    note: bytes = b""
    is_whole: bool = False
    is_live: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """total_bytes: what listeners can have by now. is_heard: there are some."""

    total_bytes: int
    is_heard: bool


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

    async def add(
        self, key: EntryKey, start: int, data: bytes, note: bytes, *, is_whole: bool
    ) -> Told | None:
        """Let others hear what this process, which has the lease, has made from byte `start` on.

        None when it has the lease no more. Raises StoreError when it cannot be reached.
        """
        ...

    async def follow(self, key: EntryKey, start: int, wait_s: float) -> Heard:
        """Listen in from byte `start` on; waits up to wait_s for more.

        Raises StoreError when it cannot be reached.
        """
        ...
