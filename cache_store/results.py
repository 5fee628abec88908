"""What a cache is asked with and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from cache_store.claims import Coordinator
from cache_store.codec import Record
from cache_store.tier import Tier

TierName: TypeAlias = str  # memory's, a tier's own, or that of a computation
Compute = Callable[[], Awaitable[Record]]
Meanwhile = Callable[[], Awaitable[None]]


class SharedTier(Tier, Coordinator, Protocol):
    """A tier that also says who computes (L2)."""


@dataclass(frozen=True, slots=True, eq=False)
class CacheResult:
    """A record and where it came from.

    record: read-only arrays, shared with other requests. tier: what answered, by its
    own name; `miss`: computed. joined: this request waited for another one's computation in this
    process. is_durable: known to be in a durable tier by now.
    """

    record: Record
    tier: TierName
    joined: bool = False
    is_durable: bool = False
