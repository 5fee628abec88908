"""GET /v1/cache/savings: hits, seconds and money saved, by tenant and voice, over the long run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Query

from cache_store.stats import Saved
from deployments.http.api_pages import answers
from deployments.http.pages.savings_shapes import SavingsReport
from deployments.savings.account import CACHES, OWNER_DIGITS, Account
from deployments.savings.keeper import SavingsKeeper
from deployments.voices.resolver import VoiceLibrary

MOST_VOICES = 100
Days = Annotated[int, Query(ge=1, le=3_650, description="How many days back, today included")]
Both = Mapping[str, Saved]


class SavingsRoutes:
    """Its handler. voices: knows the names of those that were asked for at this router."""

    def __init__(self, keeper: SavingsKeeper, voices: VoiceLibrary) -> None:
        self._keeper, self._voices = keeper, voices

    def add_to(self, app: FastAPI) -> None:
        app.get("/v1/cache/savings", **_DOC)(self.savings)

    async def savings(self, days: Days = 30) -> dict[str, Any]:
        """What the caches saved in the last days, by all routers, restarts included.

        Seconds are those that the records took to compute when they were made; money is these at
        `telemetry.gpu_hour_price`. Voices come by what they saved, the first 100.
        """
        account = await self._keeper.saved(days)
        total = {cache: account.total(cache) for cache in CACHES}
        return {
            "object": "cache.savings",
            "days": days,
            "gpu_hour_price": self._keeper.price,
            "total": self._told(total),
            "by_tenant": self._by_tenant(account),
            "by_voice": self._by_voice(account),
        }

    def _by_tenant(self, account: Account) -> list[dict[str, Any]]:
        tenants: dict[str, dict[str, Saved]] = {}
        for (namespace, _), row in account.rows.items():
            sums = tenants.setdefault(namespace, {cache: Saved() for cache in CACHES})
            for cache, saved in row.items():
                sums[cache].add(saved)
        ordered = sorted(tenants.items(), key=lambda item: -_seconds(item[1]))
        return [{"tenant": tenant, **self._told(row)} for tenant, row in ordered]

    def _by_voice(self, account: Account) -> list[dict[str, Any]]:
        names = {owner[:OWNER_DIGITS]: name for owner, name in self._voices.names().items()}
        ordered = sorted(account.rows.items(), key=lambda item: -_seconds(item[1]))
        return [
            {"tenant": tenant, "owner": owner, "voice": names.get(owner), **self._told(row)}
            for (tenant, owner), row in ordered[:MOST_VOICES]
        ]

    def _told(self, row: Both) -> dict[str, Any]:
        return {
            cache: {
                "hits": saved.hits,
                "computes": saved.computes,
                "saved_s": round(saved.seconds, 3),
                "money": round(self._keeper.money(saved.seconds), 4),
            }
            for cache, saved in row.items()
        }


def _seconds(row: Both) -> float:
    return sum(saved.seconds for saved in row.values())


_SAVED = {"hits": 41, "computes": 2, "saved_s": 12.6, "money": 0.003}
_BOTH = {"voices": _SAVED, "speech": _SAVED}
_DOC = answers(
    {
        "object": "cache.savings",
        "days": 30,
        "gpu_hour_price": 1.2,
        "total": _BOTH,
        "by_tenant": [{"tenant": "shared", **_BOTH}],
        "by_voice": [{"tenant": "shared", "owner": "5f1d" * 4, "voice": "aria", **_BOTH}],
    },
    SavingsReport,
    refused=(503,),
)
