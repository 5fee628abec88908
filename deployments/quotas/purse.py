"""What one router has of one account: leased and spare, taken for replies, spent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from deployments.quotas.accounts import Account, Answer, Word
from deployments.quotas.window import TINY, Window

IDLE_S = 2.0  # without a request: then what is spare goes back
DRY_S = 0.25  # for so long the book's no is believed


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """A request that waits for the book's answer."""

    amount: float
    turn: asyncio.Future[None]


class ShortError(Exception):
    """An account has not so much now. wait_s: until it has."""

    def __init__(self, purse: Purse, wait_s: float) -> None:
        super().__init__(f"{purse.account.measure} of {purse.account.owner}")
        self.purse, self.wait_s = purse, wait_s


class Purse:
    """Use it from one event loop. Amounts: requests, streams, or seconds of audio."""

    def __init__(self, account: Account, limit: float) -> None:
        self.account, self.limit = account, limit
        window_s = account.measure.window_s
        self.is_spent = window_s is not None
        """Whether what is taken of it is used up; else it is held."""
        self._own = None if window_s is None else Window(window_s, limit)
        self.spare = self.taken = self.share = 0.0
        self._total = 0.0
        self._told: tuple[float, Answer] | None = None
        self._last: tuple[float, float, float] | None = None  # when, free then, own total then
        self._dry_until_s = self._used_s = float("-inf")
        self.waiting: list[Waiter] = []
        self.has_news = True
        """The book does not know how it stands."""

    def set_limit(self, limit: float) -> None:
        """Settings or a key's document changed."""
        if limit != self.limit:
            self.limit, self.has_news = limit, True
            if self._own is not None:
                self._own.limit = limit

    def take(self, amount: float, now_s: float) -> bool:
        """Take from what is spare, if it is enough."""
        self._used_s = now_s
        if self.spare + TINY < amount:
            return False
        self.spare -= amount
        self.taken += amount
        self.has_news = True
        return True

    def take_alone(self, amount: float, n_routers: int, now_s: float) -> None:
        """Take from this router's share of the limit, while the book is away. Raises ShortError.

        Nor is more taken than its share of what the book last said was free, and of what has come
        free since: others may have spent what this router did not.
        """
        share = max(self.limit / n_routers, 1.0)
        used = self.taken + self._spent(now_s)
        if self._last is not None and self._own is not None:
            told_s, free, total = self._last
            left = free / n_routers + share * (now_s - told_s) / self._own.window_s
            used = max(used, share - left + self._total + self.taken - total)
        fits = used < share if self.account.measure.is_owed else used + amount <= share + TINY
        if not fits:
            wait_s = 1.0 if self._own is None else self._own.wait_s(used + TINY - share, now_s)
            raise ShortError(self, wait_s)
        self.taken += amount
        self.has_news = True

    def spend(self, amount: float, from_taken: float, now_s: float) -> None:
        """Spend; `from_taken` of it was taken before. A negative amount is given back.

        What was not taken comes from what is spare first: nobody else is let in with it.
        """
        self.taken = max(self.taken - from_taken, 0.0)
        self.spare = max(self.spare - max(amount - from_taken, 0.0), 0.0)
        self._total += amount
        if self._own is not None:
            self._own.spend(amount, now_s)
        if amount < 0:
            self._dry_until_s = float("-inf")
        self.has_news = True

    def put_back(self, amount: float) -> None:
        """What was taken and is not needed."""
        if amount > 0:
            self.taken = max(self.taken - amount, 0.0)
            self.spare += amount
            self._dry_until_s = float("-inf")
            self.has_news = True

    def void(self) -> None:
        """The leases are over, and what the book said is old."""
        self.spare, self._told = 0.0, None

    def taken_waiters(self) -> list[Waiter]:
        """Those who wait; they are the caller's from here on."""
        waiting, self.waiting = self.waiting, []
        return waiting

    @property
    def is_low(self) -> bool:
        """Whether more should be leased before somebody needs it."""
        return self.share > TINY and self.spare <= self.share / 2

    def dry_s(self, now_s: float) -> float:
        """The book has just said no: seconds until it may say something else; 0 if it has not."""
        if self._told is None or now_s >= self._dry_until_s:
            return 0.0
        told_s, answer = self._told
        return max(answer.wait_s - (now_s - told_s), self._dry_until_s - now_s)

    def word(self, now_s: float) -> Word:
        """For the book; what is spare beyond its share, or for nobody, is given back with it."""
        is_used = now_s - self._used_s <= IDLE_S
        self.spare = min(self.spare, self.share) if is_used else 0.0
        self.has_news = False
        wanted = tuple(one.amount for one in self.waiting if not one.turn.done())
        recent = 0.0 if self._own is None else self._own.used(now_s)
        return Word(
            self.account, self.limit, self._total, recent, self.taken, self.spare, wanted, is_used
        )

    def heard(self, answer: Answer, waiters: list[Waiter], now_s: float) -> None:
        """The book's answer, to those who waited when it was asked."""
        self.spare += answer.granted
        self.share = answer.share
        self._told = now_s, answer
        self._last = now_s, max(answer.free, 0.0) + self.spare, self._total + self.taken
        for one in waiters:
            if one.turn.done():
                continue
            if self.take(one.amount, now_s):
                one.turn.set_result(None)
            else:
                self._dry_until_s = now_s + min(max(answer.wait_s, 0.0), DRY_S)
                one.turn.set_exception(ShortError(self, answer.wait_s))

    def remaining(self, now_s: float) -> float:
        """What the account has left, as far as this router knows."""
        if self._told is None:
            left = self.limit - self.taken - self._spent(now_s)
        else:
            left = self.spare + self._told[1].free
        return max(left, 0.0)

    def reset_s(self, now_s: float) -> float:
        """Until nothing of it is used, as far as this router knows."""
        own_s = 0.0 if self._own is None else self._own.reset_s(now_s)
        if self._told is None:
            return own_s
        told_s, answer = self._told
        return max(answer.reset_s - (now_s - told_s), own_s, 0.0)

    def is_idle(self, now_s: float) -> bool:
        """Whether there is nothing to remember, and nothing that the book does not know."""
        has_some = self.taken > TINY or self.spare > TINY or self._spent(now_s) > TINY
        return not (has_some or self.waiting or self.has_news) and now_s - self._used_s > IDLE_S

    def _spent(self, now_s: float) -> float:
        return 0.0 if self._own is None else self._own.used(now_s)
