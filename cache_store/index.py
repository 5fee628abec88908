"""The index of L2: the entries in the cluster's memory, and the leases of running computations.

It runs in one process for the whole cluster (or one per shard) and may be lost at any time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from cache_store.leases import LeaseTable
from cache_store.memory import MemoryTier

PART_BYTES = 90_000  # Ray inlines return values below 100 KB: one round trip instead of a pull
PARTS = 4
SMALL_BYTES = 16_000  # kept in the index itself; an object would cost more than it holds
FAILURES_BYTES = 4_000_000
FAILURE_S = 60.0
FENCES_BYTES = 1_000_000  # some thousand removals; entries sent before the oldest have long arrived

PARTIAL_BYTES = 256 * 2**20  # of all that is being made; the rest is heard when it is done

Kind = Literal["hit", "absent", "lease", "busy", "failure", "partial"]


class Header(NamedTuple):
    """First part of a reply; the entry follows in PARTS parts, or behind `refs` when too large."""

    kind: Kind
    """hit, absent (from `find`), lease (the caller computes), busy (another process computes),
    failure (the computation failed for good), partial (from `follow`: bytes of what is being
    computed, from the place asked for on)."""
    incarnation: str
    fence: int = 0
    failure: bytes = b""
    refs: tuple[Any, ...] = ()
    note: bytes = b""
    total_bytes: int = 0
    is_whole: bool = False
    is_heard: bool = False


Reply = tuple[Any, ...]  # Header, then PARTS times bytes


class Origin(NamedTuple):
    """Which clip an entry belongs to, and which process sent it."""

    owner: str = ""
    """Owner of the entry's clip; empty when unknown."""
    holder: str = ""
    """The process that sends the entry."""
    number: int = 0
    """Removals that the process had reported to the index when it began to send."""


NOBODY = Origin()


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """An entry in the object store."""

    ref: Any
    """Object reference by which other processes fetch it."""
    view: Any
    """Its bytes here, uint8 (n,)."""


class Index:
    """Entries by digest (an LRU), leases and failures.

    store: puts the bytes (uint8 array) into shared memory and returns the held entry.
    """

    def __init__(self, max_bytes: int, store: Callable[[Any], Awaitable[Held]]) -> None:
        self.incarnation = uuid.uuid4().hex[:12]
        self._store = store
        self._entries = MemoryTier[Held](max_bytes)
        self._failures = MemoryTier[tuple[bytes, float]](FAILURES_BYTES)
        self._leases = LeaseTable()
        self._fences = MemoryTier[int](FENCES_BYTES)
        self._hits = 0
        self._misses = 0

    async def find(self, digest: str) -> Reply:
        """The entry or failure, if any; takes no lease."""
        return self._known(digest) or self._reply("absent")

    async def claim(
        self, digest: str, holder: str, ttl_s: float, wait_s: float, owner: str = ""
    ) -> Reply:
        """The entry, the failure, or a lease to compute it; busy when none comes within wait_s."""
        give_up_s = time.monotonic() + wait_s
        while True:
            known = self._known(digest)
            if known is not None:
                return known
            fence = self._leases.claim(digest, holder, ttl_s, owner)
            if fence is not None:
                return self._reply("lease", fence=fence)
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                return self._reply("busy")
            await self._leases.wait(digest, left_s)

    async def renew(
        self, digest: str, holder: str, fence: int, ttl_s: float, origin: Origin = NOBODY
    ) -> int | None:
        """Renew a lease: its fence; None when another holder took over or the clip was removed."""
        if self._is_fenced(origin):
            return None
        return self._leases.renew(digest, holder, fence, ttl_s, origin.owner)

    async def release(
        self, digest: str, holder: str, fence: int, failure: bytes, origin: Origin = NOBODY
    ) -> None:
        """The holder gives up: with a permanent failure, or (empty) so that another may try."""
        if failure and not self._is_fenced(origin):
            remembered = (failure, time.monotonic() + FAILURE_S)
            self._failures.put(digest, remembered, len(failure) + 200, origin.owner)
        self._leases.release(digest, holder, fence)

    async def publish(self, digest: str, data: Any, origin: Origin = NOBODY) -> None:
        """Keep an entry (uint8 array) and give it to all waiting callers.

        Ignored when its sender sent it before it removed the clip.
        """
        if self._is_fenced(origin):
            return
        try:
            if self._entries.get(digest) is None:
                held = await self._store(data)
                if not self._is_fenced(origin):
                    self._entries.put(digest, held, data.nbytes, origin.owner)
        finally:
            if not self._is_fenced(origin):
                self._leases.settle(digest)

    async def add(
        self, digest: str, holder: str, start: int, data: Any, note: bytes, is_whole: bool
    ) -> Header:
        """Let others hear what the holder has made so far (uint8 array, from byte `start` on).

        Answers how much is held then; absent to one whose lease is another's by now.
        """
        partial = self._leases.partial(digest, holder)
        if partial is None:
            return Header("absent", self.incarnation)
        if self._leases.partial_bytes + data.nbytes <= PARTIAL_BYTES:
            partial.add(start, data.tobytes(), note, is_whole=is_whole)
        total_bytes = len(partial.data)
        return Header(
            "partial", self.incarnation, total_bytes=total_bytes, is_heard=partial.is_heard
        )

    async def follow(self, digest: str, start: int, wait_s: float) -> Reply:
        """What is being computed, from byte `start` on; busy when no more comes within wait_s.

        Absent when nobody computes it, any more: then `claim` tells what came of it.
        """
        partial = self._leases.partial(digest)
        if partial is None:
            return self._reply("absent")
        await partial.beyond(start, min(wait_s, self._leases.left_s(digest)))
        if self._leases.partial(digest) is not partial:
            return self._reply("absent")
        if len(partial.data) <= start and not partial.is_whole:
            return self._reply("busy")
        header = Header(
            "partial",
            self.incarnation,
            note=partial.note,
            total_bytes=len(partial.data),
            is_whole=partial.is_whole,
        )
        return (header, *_parts(memoryview(partial.data)[start:]))

    async def drop(self, digest: str) -> None:
        """Forget one damaged entry."""
        self._entries.discard(digest)

    async def forget(self, origin: Origin) -> None:
        """Drop the owner's entries and failures, and end its leases.

        Entries that the same process sent before, with a lower number, are ignored.
        """
        self._fences.put(_fence(origin), origin.number, 300)
        self._entries.discard_of(origin.owner)
        self._failures.discard_of(origin.owner)
        self._leases.settle_of(origin.owner)

    async def stats(self) -> dict[str, Any]:
        return {
            "incarnation": self.incarnation,
            "hits": self._hits,
            "misses": self._misses,
            **asdict(self._entries.stats()),
            **self._leases.stats(),
        }

    def _is_fenced(self, origin: Origin) -> bool:
        return origin.number < (self._fences.get(_fence(origin)) or 0)

    def _known(self, digest: str) -> Reply | None:
        held = self._entries.get(digest)
        if held is not None:
            self._hits += 1
            return self._hit(held)
        self._misses += 1
        remembered = self._failures.get(digest)
        if remembered is None:
            return None
        failure, until_s = remembered
        if until_s <= time.monotonic():
            self._failures.discard(digest)
            return None
        return self._reply("failure", failure=failure)

    def _hit(self, held: Held) -> Reply:
        if held.view.nbytes > PARTS * PART_BYTES:
            return self._reply("hit", refs=(held.ref,))
        return (Header("hit", self.incarnation), *_parts(held.view))

    def _reply(
        self, kind: Kind, *, fence: int = 0, failure: bytes = b"", refs: tuple[Any, ...] = ()
    ) -> Reply:
        return (Header(kind, self.incarnation, fence, failure, refs), *[b""] * PARTS)


def _parts(data: Any) -> list[bytes]:
    starts = range(0, PARTS * PART_BYTES, PART_BYTES)
    return [data[start : start + PART_BYTES].tobytes() for start in starts]


def _fence(origin: Origin) -> str:
    return f"{origin.owner}/{origin.holder}"
