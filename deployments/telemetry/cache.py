"""The cache's counters as Prometheus metrics, sampled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ray.serve.metrics import Counter

from cache_store.stats import CacheStats
from deployments.telemetry import metrics as table

CACHE_SAMPLE_S = 5.0


class CacheMetrics:
    """Samples the counters of one cache."""

    def __init__(self) -> None:
        self._lookups = table.CACHE_REQUESTS.open()
        self._computes = table.CACHE_COMPUTES.open()
        self._saved = table.CACHE_SAVED.open()
        self._bytes = table.CACHE_BYTES.open()
        self._tier = table.CACHE_TIER.open()
        self._seen: dict[tuple[str, ...], float] = {}

    async def sample(self, read: Callable[[], CacheStats]) -> None:
        """Publish every few seconds until cancelled."""
        while True:
            self.publish(read())
            await asyncio.sleep(CACHE_SAMPLE_S)

    def publish(self, stats: CacheStats) -> None:
        """Publish what changed since the last time."""
        for (kind, tier, result), count in stats.requests.items():
            tags = {"kind": kind, "tier": tier, "result": result}
            self._count(self._lookups, ("requests", kind, tier, result), count, tags)
        self._count(self._computes, ("computes",), stats.computes, {})
        self._count(self._saved, ("saved",), stats.saved_s, {})
        self._bytes.set(stats.l1.bytes, tags={"tier": "l1"})
        self._bytes.set(stats.alias.bytes, tags={"tier": "alias"})
        for tier, numbers in stats.tiers.items():
            for number, value in numbers.items():
                self._tier.set(value, tags={"tier": tier, "number": number})

    def _count(
        self, counter: Counter, key: tuple[str, ...], total: float, tags: dict[str, str]
    ) -> None:
        grown = total - self._seen.get(key, 0.0)
        if grown > 0:
            counter.inc(grown, tags=tags)
            self._seen[key] = total
