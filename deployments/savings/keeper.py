"""Takes what a router's caches count, writes it down, and tells Prometheus what was saved for long.

Nothing on the way of a request waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from cache_store.stats import Saved, Savings
from deployments.config.telemetry.telemetry_settings import TelemetrySettings
from deployments.savings.account import CACHES, Account
from deployments.savings.book import SavingsBook
from deployments.telemetry.savings import SavingsMetrics
from deployments.voices.shelf import Shelf
from pipeline.errors import TimbreError

logger = logging.getLogger(__name__)

LOOK_S = 600.0  # how often is looked up what all routers saved on all days
HOUR_S = 3_600.0


class SavingsKeeper:
    """Of one router. Use it from one event loop.

    caches: what each of CACHES counted since it was asked last. shelf: None where nothing is kept;
    then only Prometheus is told.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        shelf: Shelf | None,
        caches: Mapping[str, Callable[[], Savings]],
    ) -> None:
        self._settings, self._caches = settings, caches
        self._metrics = SavingsMetrics(self.money)
        self._kept = {cache: Saved() for cache in CACHES}  # of all routers, as of the last look
        self._flushing = asyncio.Lock()  # by the clock, for who asks, and at the end
        self._book: SavingsBook | None = None
        if shelf is not None:
            self._book = SavingsBook(shelf, settings.most_accounts, settings.account_days)

    async def run(self) -> None:
        """Until cancelled."""
        look_s = -LOOK_S
        while True:
            if self._book is not None and time.monotonic() - look_s >= LOOK_S:
                look_s = time.monotonic()
                await self._look(self._book)
            await asyncio.sleep(self._settings.account_every_s)
            await self.flush()

    async def flush(self) -> None:
        """Write down what was counted; what the store does not take now, the next time."""
        async with self._flushing:
            account = self._counted()
            if self._book is None:
                return
            try:
                await self._book.add(account)
            except TimbreError as error:
                logger.warning("what was saved could not be written down: %s", error.message)

    def _counted(self) -> Account:
        """Since it was asked last; Prometheus is told."""
        account = Account(self._settings.most_accounts)
        for cache in CACHES:
            savings = self._caches[cache]()
            account.take(cache, savings)
            self._metrics.counted(cache, savings)
            self._kept[cache].add(account.total(cache))
        self._metrics.kept(self._kept)
        return account

    async def saved(self, days: int) -> Account:
        """What all routers saved in the last days, this one up to now. Raises as Shelf does."""
        await self.flush()
        if self._book is None:
            return Account(self._settings.most_accounts)
        return await self._book.read(days)

    @property
    def price(self) -> float:
        """What money is reckoned with."""
        return self._settings.gpu_hour_price

    def money(self, seconds: float) -> float:
        """What seconds of the stages cost, by `telemetry.gpu_hour_price`."""
        return seconds / HOUR_S * self._settings.gpu_hour_price

    async def _look(self, book: SavingsBook) -> None:
        await self.flush()
        try:
            await book.sweep()
            account = await book.all()
        except TimbreError as error:
            logger.warning("what was saved could not be looked up: %s", error.message)
            return
        self._kept = {cache: account.total(cache) for cache in CACHES}
        self._metrics.kept(self._kept)
