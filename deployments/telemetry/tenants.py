"""The router's counts of whom it let in and whom it refused."""

from __future__ import annotations

from typing import Literal

from deployments.telemetry import metrics as table

MOST_NAMED = 100  # tenants that a router tells apart: every name is a series that is kept for good
OTHER = ".other"  # no tenant's name
Reason = Literal["missing", "invalid", "scope", "unknown"]


class TenantNames:
    """The values of a label `tenant`. Use it from one event loop."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def label(self, tenant: str) -> str:
        """The tenant's own name, or OTHER for one too many."""
        if tenant not in self._named:
            if len(self._named) >= MOST_NAMED:
                return OTHER
            self._named.add(tenant)
        return tenant


class TenantCounts:
    """Use it from one event loop."""

    def __init__(self) -> None:
        self._names = TenantNames()
        self._requests = table.TENANT_REQUESTS.open()
        self._refusals = table.KEY_REFUSALS.open()

    def let_in(self, tenant: str) -> None:
        """A request of a tenant."""
        self._requests.inc(tags={"tenant": self._names.label(tenant)})

    def refused(self, reason: Reason) -> None:
        """A request that nobody was told of."""
        self._refusals.inc(tags={"reason": reason})
