"""Routers' ledgers on one book of quotas, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from deployments.quotas.accounts import Account, BookAwayError, Measure, Told, Word
from deployments.quotas.book import QuotaBook
from deployments.quotas.ledger import Grant, Ledger
from deployments.quotas.purse import ShortError

TENANT = "tenant/mine"


class NearBook:
    """The real book, in this process; it may be away, and counts how often it is asked."""

    def __init__(self, book: QuotaBook) -> None:
        self.book, self.is_away, self.calls = book, False, 0

    async def sync(self, router: str, words: Sequence[Word]) -> Told:
        self.calls += 1
        await asyncio.sleep(0)  # as an answer from another process: others run meanwhile
        if self.is_away:
            raise BookAwayError("gone")
        return self.book.sync(router, words)


class Fleet:
    """Routers by number. Time passes by `pass_s` alone; each tells the book every second of it."""

    def __init__(self, n_routers: int, *, alone_s: float = 600.0, seed: int = 1) -> None:
        self.now_s = 1_000.0
        self.book = NearBook(QuotaBook(self.now))
        self.routers = [
            Ledger(self.book, f"router {number}", alone_s, self.now, gather_s=0.0)
            for number in range(n_routers)
        ]
        self.draw = random.Random(seed)  # noqa: S311 - loads, the same each time

    def now(self) -> float:
        return self.now_s

    def lose_book(self) -> None:
        """The book dies, and another one begins that knows nothing."""
        self.book.book = QuotaBook(self.now)

    async def tell(self) -> None:
        for router in self.routers:
            await router.tell()

    async def pass_s(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(self.now_s + 1.0, end_s)
            await self.tell()

    async def take(
        self, router: int, measure: Measure, limit: float, amount: float = 1.0, of: str = TENANT
    ) -> Grant | None:
        """Reserve; None where the quota says no."""
        try:
            return await self.routers[router].reserve([(Account(of, measure), limit, amount)])
        except ShortError:
            return None

    async def ask(self, router: int, limit: float) -> bool:
        """Whether one request is let in."""
        grant = await self.take(router, Measure.REQUESTS, limit)
        if grant is None:
            return False
        grant.spend(1.0)
        grant.close()
        return True
