"""One router's part of the quotas: requests are let in from leases that it has in memory.

The book of the cluster is asked in the background, ahead of need; a request waits for it only where
this router has no lease of its account.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from cache_store.background import spawn
from deployments.quotas.accounts import Account, Book, BookAwayError, Told
from deployments.quotas.book import LEASE_S
from deployments.quotas.purse import Purse, ShortError, Waiter
from pipeline.errors import StageUnavailableError

logger = logging.getLogger(__name__)

TELL_S = 1.0  # between words to the book, where nothing is wanted
GATHER_S = 0.02  # what is not waited for is gathered for so long before it is told
UNKNOWN = "how much of the quota is used cannot be found out"
ROUTERS_UNTOLD = 2  # routers, while the book never said how many there are
Want = tuple[Account, float, float]
"""An account, its limit, and an amount."""


class Grant:
    """What was taken for one request. Give the rest back with `close`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._taken: list[tuple[Purse, float]] = []
        self._spent = 0.0

    def add(self, purse: Purse, amount: float) -> None:
        """Taken from a purse."""
        self._taken.append((purse, amount))

    def spend(self, amount: float) -> None:
        """Spend so much of every account that is spent from; what was not taken for it is owed."""
        now_s, self._spent = self._ledger.now(), self._spent + amount
        for index, (purse, left) in enumerate(self._taken):
            if purse.is_spent:
                from_taken = min(amount, left)
                purse.spend(amount, from_taken, now_s)
                self._taken[index] = purse, left - from_taken

    def refund(self) -> None:
        """Give back what was spent: nobody had anything of it."""
        if self._spent:
            spent, self._spent = self._spent, 0.0
            for purse, _ in self._taken:
                if purse.is_spent:
                    purse.spend(-spent, 0.0, self._ledger.now())
            self._ledger.tell_soon()

    def close(self) -> None:
        """Give the rest back."""
        rest = [(purse, left) for purse, left in self._taken if left > 0]
        self._taken = [(purse, 0.0) for purse, _ in self._taken]
        for purse, left in rest:
            purse.put_back(left)
        if rest:
            self._ledger.tell_soon()


class Ledger:
    """Use it from one event loop.

    router: its name in the book. alone_s: how long it goes on with its share of a limit while the
    book is away.
    """

    def __init__(
        self,
        book: Book,
        router: str,
        alone_s: float,
        now: Callable[[], float] = time.monotonic,
        gather_s: float = GATHER_S,
    ) -> None:
        self._book, self._router, self._alone_s = book, router, alone_s
        self.now, self._gather_s = now, gather_s
        self._purses: dict[Account, Purse] = {}
        self._incarnation = ""
        self._n_routers = ROUTERS_UNTOLD
        self._heard_s: float | None = None
        self._away_since_s: float | None = None
        self._telling: asyncio.Task[None] | None = None
        self._is_urgent = asyncio.Event()
        self._is_due = False
        self._one_at_a_time = asyncio.Lock()

    @property
    def is_alone(self) -> bool:
        """Whether the book does not answer."""
        return self._away_since_s is not None

    @property
    def n_accounts(self) -> int:
        """Accounts that it remembers."""
        return len(self._purses)

    def purse(self, account: Account, limit: float) -> Purse:
        """Of an account, with the limit that it has now."""
        purse = self._purses.get(account)
        if purse is None:
            purse = self._purses[account] = Purse(account, limit)
        purse.set_limit(limit)
        return purse

    async def reserve(self, wants: Sequence[Want]) -> Grant:
        """Take all of them, or none. Raises ShortError; StageUnavailableError after alone_s."""
        grant = Grant(self)
        asked: list[tuple[Purse, Waiter]] = []
        try:
            for account, limit, amount in wants:
                purse = self.purse(account, limit)
                if self._take(purse, amount):
                    grant.add(purse, amount)
                else:
                    asked.append((purse, self._ask(purse, amount)))
            while asked:
                purse, waiter = asked[0]
                await waiter.turn
                grant.add(purse, waiter.amount)
                del asked[0]
        except BaseException:
            for purse, waiter in asked:
                _let_go(purse, waiter)
            grant.close()
            raise
        return grant

    def charge(self, wants: Sequence[Want]) -> None:
        """Spend, whether there is room or not."""
        for account, limit, amount in wants:
            self.purse(account, limit).spend(amount, 0.0, self.now())
        self.tell_soon()

    async def run(self, *, is_announced: bool = True) -> None:
        """Tell the book every second that this router is there and what it spent, until cancelled.

        What nobody has used for long is forgotten here. is_announced: also while there is nothing
        to tell, so that the others know how many routers there are.
        """
        while True:
            now_s = self.now()
            for account in [one for one, purse in self._purses.items() if purse.is_idle(now_s)]:
                del self._purses[account]
            if is_announced or self._purses:
                await self.tell()
            await asyncio.sleep(TELL_S)

    async def tell(self) -> None:
        """Tell the book what it does not know, and hear what it says; also that it is away."""
        async with self._one_at_a_time:  # a word holds how things stand: none may overtake another
            now_s = self.now()
            purses = [one for one in self._purses.values() if _is_told(one)]
            words = [purse.word(now_s) for purse in purses]
            asked = [purse.taken_waiters() for purse in purses]
            try:
                told = await self._book.sync(self._router, words)
            except BookAwayError as error:
                self._is_away(purses, error)
                for purse, waiters in zip(purses, asked, strict=True):
                    self._decide_alone(purse, waiters)
            except BaseException:  # a fault of ours, or the end of the service
                for waiter in (one for waiters in asked for one in waiters):
                    if not waiter.turn.done():
                        waiter.turn.set_exception(StageUnavailableError(UNKNOWN))
                raise
            else:
                self._heard(told, now_s)
                for purse, waiters, answer in zip(purses, asked, told.answers, strict=True):
                    purse.heard(answer, waiters, self.now())

    def tell_soon(self) -> None:
        """Have the book told in the background."""
        self._is_due = True
        if self._telling is None or self._telling.done():
            self._telling = spawn("telling the book of quotas", self._tell_all())

    async def _tell_all(self) -> None:
        while self._is_due:
            if self._gather_s:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._gather_s):
                        await self._is_urgent.wait()
            self._is_due = False
            self._is_urgent.clear()
            await self.tell()

    def _take(self, purse: Purse, amount: float) -> bool:
        """Take it from memory; False where the book is to be asked. Raises ShortError."""
        now_s = self.now()
        if self._heard_s is None or now_s - self._heard_s > LEASE_S:
            purse.void()
        if purse.take(amount, now_s):
            if purse.is_low and not self.is_alone:
                self.tell_soon()
            return True
        if self.is_alone:
            self._take_alone(purse, amount)
            return True
        dry_s = purse.dry_s(now_s)
        if dry_s > 0:
            raise ShortError(purse, dry_s)
        return False

    def _ask(self, purse: Purse, amount: float) -> Waiter:
        """Ask the book, with all else that is asked at this moment."""
        waiter = Waiter(amount, asyncio.get_running_loop().create_future())
        purse.waiting.append(waiter)
        self._is_urgent.set()
        self.tell_soon()
        return waiter

    def _heard(self, told: Told, asked_s: float) -> None:
        if self.is_alone:
            logger.info("the book of quotas answers again")
            self._away_since_s = None
        self._heard_s, self._n_routers = asked_s, max(told.n_routers, 1)
        if told.incarnation != self._incarnation:
            self._incarnation = told.incarnation
            for purse in self._purses.values():
                purse.has_news = True

    def _is_away(self, purses: Sequence[Purse], error: BookAwayError) -> None:
        if not self.is_alone:
            self._away_since_s = self.now()
            logger.warning("the book of quotas does not answer, going on alone: %s", error)
        for purse in purses:
            purse.has_news = True

    def _decide_alone(self, purse: Purse, waiters: Sequence[Waiter]) -> None:
        for one in waiters:
            if one.turn.done():
                continue
            try:
                self._take_alone(purse, one.amount)
            except (ShortError, StageUnavailableError) as error:
                one.turn.set_exception(error)
            else:
                one.turn.set_result(None)

    def _take_alone(self, purse: Purse, amount: float) -> None:
        now_s = self.now()
        if self._away_since_s is not None and now_s - self._away_since_s > self._alone_s:
            raise StageUnavailableError(UNKNOWN)
        purse.take_alone(amount, self._n_routers, now_s)


def _is_told(purse: Purse) -> bool:
    return purse.has_news or bool(purse.waiting) or purse.spare > 0 or purse.taken > 0


def _let_go(purse: Purse, waiter: Waiter) -> None:
    """Nobody waits for this answer any more; it may be there."""
    if not waiter.turn.done():
        waiter.turn.cancel()
    elif not waiter.turn.cancelled() and waiter.turn.exception() is None:
        purse.put_back(waiter.amount)
