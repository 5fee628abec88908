"""Who may spend what: from the settings' quotas to what a request may spend."""

from __future__ import annotations

from collections.abc import Callable

from deployments.access.caller import Caller
from deployments.config.tenants.quota_settings import Quota, QuotaSettings
from deployments.quotas.ledger import Ledger
from deployments.quotas.spending import Limited, Spending

MOST_KNOWN = 10_000  # tenants and keys whose limits are at hand


class QuotaGate:
    """Of one process. Use it from one event loop.

    refused: told of each refusal, by measure and whether a tenant's or a key's quota refused.
    """

    def __init__(
        self,
        settings: QuotaSettings,
        ledger: Ledger,
        refused: Callable[[str, str], None],
    ) -> None:
        self._settings, self._ledger, self._refused = settings, ledger, refused
        self._known: dict[str, Limited] = {}

    def spending(self, caller: Caller) -> Spending:
        """What a caller may spend; made anew for each request, so that new quotas count at once."""
        limited: list[Limited] = []
        tenant = self._settings.of_tenant(caller.namespace)
        if tenant.is_set:
            limited.append(self._limited(tenant, "tenant", f"tenant/{caller.namespace}"))
        if caller.key_id:
            key = self._settings.of_key(caller.key_id)
            if key.is_set:
                owner = f"key/{caller.namespace}/{caller.key_id}"
                limited.append(self._limited(key, "key", owner))
        return Spending(limited, self._ledger, self._refused)

    @property
    def is_alone(self) -> bool:
        """Whether the cluster's book does not answer."""
        return self._ledger.is_alone

    def _limited(self, quota: Quota, of: str, owner: str) -> Limited:
        """Made once for each quota and owner."""
        known = self._known.get(owner)
        if known is None or known.quota is not quota:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[owner] = Limited.by(quota, of, owner)
        return known

    async def run(self) -> None:
        """What goes on in the background, until cancelled."""
        await self._ledger.run(is_announced=self._settings.is_set)
