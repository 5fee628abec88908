"""Leases with expiry and fences: which process computes which entry."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field

_SWEEP_AT = 10_000  # concurrent leases; beyond it most holders have died


@dataclass(slots=True)
class LeaseStats:
    """Counters since the start."""

    granted: int = 0
    waited: int = 0
    expired: int = 0
    fenced: int = 0
    """Calls by holders that had lost their lease."""


@dataclass(slots=True)
class _Lease:
    holder: str
    fence: int
    until_s: float
    owner: str
    released: asyncio.Event = field(default_factory=asyncio.Event)


class LeaseTable:
    """At most one live lease per digest. Use from one event loop.

    A holder that dies stops renewing; the lease then lapses and the next caller gets it.
    """

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}
        self._fence = 0
        self._stats = LeaseStats()

    def claim(self, digest: str, holder: str, ttl_s: float, owner: str = "") -> int | None:
        """A fence if nobody holds the digest (now `holder` does), else None.

        owner: what `settle_of` finds the lease by.
        """
        now_s = time.monotonic()
        lease = self._leases.get(digest)
        if lease is not None and lease.until_s > now_s:
            return None
        if lease is not None:
            self._stats.expired += 1
            lease.released.set()
        if len(self._leases) >= _SWEEP_AT:
            self._sweep(now_s)
        self._fence += 1
        self._stats.granted += 1
        self._leases[digest] = _Lease(holder, self._fence, now_s + ttl_s, owner)
        return self._fence

    def renew(
        self, digest: str, holder: str, fence: int, ttl_s: float, owner: str = ""
    ) -> int | None:
        """Renew: the lease's fence; None when another holder took over.

        Also grants a digest that nobody holds: after a restart the table is empty, and the process
        that already computes keeps its lease.
        """
        lease = self._leases.get(digest)
        if lease is not None and lease.holder == holder and lease.fence == fence:
            lease.until_s = time.monotonic() + ttl_s
            return fence
        again = self.claim(digest, holder, ttl_s, owner)
        self._stats.fenced += again is None
        return again

    def release(self, digest: str, holder: str, fence: int) -> None:
        """End exactly this lease and wake waiting callers; calls of a former holder are ignored."""
        lease = self._leases.get(digest)
        if lease is None:
            return
        if lease.holder != holder or lease.fence != fence:
            self._stats.fenced += 1
            return
        self.settle(digest)

    def settle(self, digest: str) -> None:
        """There is an answer, from any process: end the lease and wake waiting callers."""
        lease = self._leases.pop(digest, None)
        if lease is not None:
            lease.released.set()

    def settle_of(self, owner: str) -> None:
        """End every lease of an owner; waiting and later callers may claim."""
        for digest in [d for d, lease in self._leases.items() if lease.owner == owner]:
            self.settle(digest)

    async def wait(self, digest: str, timeout_s: float) -> None:
        """Return when the digest's lease is released or lapses, or after the timeout."""
        lease = self._leases.get(digest)
        if lease is None:
            return
        self._stats.waited += 1
        give_up_s = time.monotonic() + timeout_s
        while not lease.released.is_set():
            left_s = min(give_up_s, lease.until_s) - time.monotonic()
            if left_s <= 0:
                return
            try:
                async with asyncio.timeout(left_s):
                    await lease.released.wait()
            except TimeoutError:
                continue  # it may have been renewed meanwhile

    def stats(self) -> dict[str, int]:
        return {"leases": len(self._leases), **asdict(self._stats)}

    def _sweep(self, now_s: float) -> None:
        for digest in [d for d, lease in self._leases.items() if lease.until_s <= now_s]:
            self.settle(digest)
