"""What the cache counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cache_store.keys import EntryKey
from cache_store.memory import MemoryStats

MOST_OWNERS = 4_096  # told apart until `take_savings`; further ones are counted together
OTHERS = ("", "")


@dataclass(slots=True)
class Saved:
    """What a cache did for one clip's owner."""

    hits: int = 0
    seconds: float = 0.0
    """What the hits would have cost to compute."""
    computes: int = 0

    def add(self, other: Saved) -> None:
        self.hits += other.hits
        self.seconds += other.seconds
        self.computes += other.computes


Savings = dict[tuple[str, str], Saved]
"""By namespace and owner, see `ClipKey.owner`; OTHERS for what were too many."""


class Tally:
    """Counters of one cache, counted at look-up. Use from one event loop."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.events: Counter[str] = Counter()
        self.saved_s = 0.0
        self._savings: Savings = {}

    def hit(self, key: EntryKey, cost_s: float) -> None:
        """A record was found that would have cost so much."""
        self.saved_s += cost_s
        self._of(key).add(Saved(1, cost_s))

    def computed(self, key: EntryKey) -> None:
        """A record is made."""
        self.events["computes"] += 1
        self._of(key).computes += 1

    def take_savings(self) -> Savings:
        """By owner, since the last time."""
        savings, self._savings = self._savings, {}
        return savings

    def _of(self, key: EntryKey) -> Saved:
        name = (key.namespace, key.owner)
        if name not in self._savings and len(self._savings) >= MOST_OWNERS:
            name = OTHERS
        return self._savings.setdefault(name, Saved())

    def look_up(self, key: EntryKey, tier: str, result: str) -> None:
        self.requests[key.kind, tier, result] += 1


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start and sizes now."""

    requests: Mapping[tuple[str, str, str], int]
    """Look-ups by (kind, tier, result); kind voice, speech or alias; result hit, miss, negative,
    error, skipped, corrupt or unreadable."""
    computes: int
    compute_failures: int
    refused_records: int
    """Computed records that their schema refused."""
    joined: int
    """Requests that waited for a computation of this process."""
    waited: int
    """Computations not done because another process was at it."""
    saved_s: float
    """What the hits would have cost to compute."""
    in_flight: int
    """Computations running."""
    l1: MemoryStats
    alias: MemoryStats
    tiers: Mapping[str, Mapping[str, float]]
    """Numbers of the tiers below memory, by name."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: requests nest as kind → tier → result."""
        requests: dict[str, dict[str, dict[str, int]]] = {}
        for (kind, tier, result), count in sorted(self.requests.items()):
            requests.setdefault(kind, {}).setdefault(tier, {})[result] = count
        plain = asdict(self)
        plain["tiers"] = {name: dict(numbers) for name, numbers in self.tiers.items()}
        return {**plain, "requests": requests}
