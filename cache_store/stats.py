"""What the cache counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cache_store.keys import AliasKey, EntryKey
from cache_store.memory import MemoryStats


class Tally:
    """Counters of one cache, counted at look-up. Use from one event loop."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.events: Counter[str] = Counter()
        self.saved_s = 0.0

    def look_up(self, key: EntryKey, tier: str, result: str) -> None:
        kind = "alias" if isinstance(key, AliasKey) else "voice"
        self.requests[kind, tier, result] += 1


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start and sizes now."""

    requests: Mapping[tuple[str, str, str], int]
    """Look-ups by (kind, tier, result); kind voice or alias; result hit, miss, negative, error,
    skipped, corrupt or unreadable."""
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
