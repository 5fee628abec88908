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
    """A tier that also coordinates computations."""

    async def index_stats(self) -> list[dict[str, Any]]:
        """Counters of each shard of the index. Raises StoreError when a shard cannot be reached."""
        ...

    async def claim(self, key: EntryKey, wait_s: float) -> Claim:
        """Look up and, if absent, lease; waits up to wait_s for another process's computation.

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
