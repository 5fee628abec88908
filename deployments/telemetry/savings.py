"""The router's metrics of what its caches save, since its start and over the long run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cache_store.stats import Saved, Savings
from deployments.telemetry import metrics as table
from deployments.telemetry.gauges import keep_published
from deployments.telemetry.tenants import OTHER, TenantNames


class SavingsMetrics:
    """Use it from one event loop. money: what seconds of the stages cost."""

    def __init__(self, money: Callable[[float], float]) -> None:
        self._money = money
        self._tenants = TenantNames()
        self._seconds = table.SAVED_SECONDS.open()
        self._hits = table.SAVED_HITS.open()
        self._kept_seconds = table.KEPT_SECONDS.open()
        self._kept_money = table.KEPT_MONEY.open()
        self._kept: Mapping[str, Saved] = {}
        keep_published(self)

    def counted(self, cache: str, savings: Savings) -> None:
        """What a cache saved since the last time."""
        for (namespace, _), saved in savings.items():
            tenant = self._tenants.label(namespace) if namespace else OTHER
            if saved.hits:
                self._hits.inc(saved.hits, tags={"cache": cache, "tenant": tenant})
            if saved.seconds > 0:
                self._seconds.inc(saved.seconds, tags={"cache": cache, "tenant": tenant})

    def kept(self, totals: Mapping[str, Saved]) -> None:
        """What all routers saved on all days that are kept, by cache; and this one since."""
        self._kept = totals
        self.publish()

    def publish(self) -> None:
        """Set the gauges to what was looked up last."""
        for cache, saved in self._kept.items():
            self._kept_seconds.set(saved.seconds, tags={"cache": cache})
            self._kept_money.set(self._money(saved.seconds), tags={"cache": cache})
