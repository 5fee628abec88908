"""The cluster's book of quotas: what every router has spent, and what it leases to each.

It runs in one process for the whole cluster and may be lost at any time: routers then tell a new
one what they have spent within the windows.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Sequence

from deployments.quotas.accounts import Account, Answer, Told, Word
from deployments.quotas.window import TINY, Window

AHEAD = 0.08  # of a limit is leased to routers for nobody yet, at most, all of them together
LEASE_S = 5.0  # a router that says nothing for so long has none of its leases any more
USED_S = 10.0  # who asked within it gets leases ahead of need
HELD_WAIT_S = 1.0  # for what is held to be given back: nobody knows
SETTLE_S = 2.5  # of a new book, in which routers tell what they spent: no leases ahead of need
SWEEP_S = 60.0


class QuotaBook:
    """Use it from one thread. It never lets more be spent than a limit, but for what is owed."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._incarnation = uuid.uuid4().hex[:12]
        self._pages: dict[Account, _Page] = {}
        self._routers: dict[str, float] = {}
        self._swept_s = self._began_s = now()

    @property
    def n_accounts(self) -> int:
        """Accounts that it remembers."""
        return len(self._pages)

    def sync(self, router: str, words: Sequence[Word]) -> Told:
        """What a router says of its accounts; see accounts.Word."""
        now_s = self._now()
        self._routers[router] = now_s
        self._drop_silent(now_s)
        if now_s - self._swept_s >= SWEEP_S:
            self._sweep(now_s)
        is_ahead = now_s - self._began_s >= SETTLE_S
        answers = [self._page(word).heard(router, word, now_s, is_ahead=is_ahead) for word in words]
        return Told(self._incarnation, len(self._routers), answers)

    def _page(self, word: Word) -> _Page:
        page = self._pages.get(word.account)
        if page is None:
            page = self._pages[word.account] = _Page(word.account, word.limit)
        return page

    def _drop_silent(self, now_s: float) -> None:
        silent = [name for name, seen_s in self._routers.items() if now_s - seen_s > LEASE_S]
        for name in silent:
            del self._routers[name]
            for page in self._pages.values():
                page.forget(name)

    def _sweep(self, now_s: float) -> None:
        """Forget accounts that nobody uses."""
        self._swept_s = now_s
        for account in [one for one, page in self._pages.items() if page.is_idle(now_s)]:
            del self._pages[account]


class _Page:
    """One account."""

    def __init__(self, account: Account, limit: float) -> None:
        self._measure = account.measure
        window_s = self._measure.window_s
        self._window = None if window_s is None else Window(window_s, limit)
        self._limit = limit
        self._totals: dict[str, float] = {}
        self._held: dict[str, float] = {}
        self._used_s: dict[str, float] = {}

    def heard(self, router: str, word: Word, now_s: float, *, is_ahead: bool) -> Answer:
        """Write a word down and answer it. is_ahead: leases are given before they are needed."""
        self._set_limit(word.limit)
        if self._window is not None:
            before = self._totals.get(router, word.total - word.recent)
            self._window.spend(word.total - before, now_s)
        self._totals[router] = word.total
        if word.is_used:
            self._used_s[router] = now_s
        self._held[router] = word.taken + word.spare
        free = self._free(now_s)
        granted = lacking = 0.0
        for amount in word.wanted:
            if free + TINY < amount and not (self._measure.is_owed and free > TINY):
                lacking = amount
                break  # what comes later waits behind it
            granted, free = granted + amount, free - amount
        share = self._share(now_s) if is_ahead else 0.0
        if word.is_used and not lacking:
            ahead = min(share - word.spare, free)
            ahead = ahead if self._measure.is_owed else math.floor(ahead + TINY)
            granted, free = granted + max(ahead, 0.0), free - max(ahead, 0.0)
        self._held[router] += granted
        wait_s = self._wait_s(lacking, free, now_s)
        return Answer(granted, share, free, wait_s, self._reset_s(now_s))

    def forget(self, router: str) -> None:
        """What it held is free. What it spent stays spent, and its totals known."""
        self._held.pop(router, None)
        self._used_s.pop(router, None)

    def is_idle(self, now_s: float) -> bool:
        """Whether there is nothing to remember."""
        is_spent = self._window is not None and self._window.used(now_s) > TINY
        return not is_spent and not any(held > TINY for held in self._held.values())

    def _set_limit(self, limit: float) -> None:
        self._limit = limit
        if self._window is not None:
            self._window.limit = limit

    def _free(self, now_s: float) -> float:
        used = 0.0 if self._window is None else self._window.used(now_s)
        return self._limit - used - sum(self._held.values())

    def _share(self, now_s: float) -> float:
        """What one router may hold ahead of need."""
        users = sum(now_s - used_s <= USED_S for used_s in self._used_s.values())
        share = AHEAD * self._limit / max(users, 1)
        return share if self._measure.is_owed else math.floor(share + TINY)

    def _wait_s(self, lacking: float, free: float, now_s: float) -> float:
        if not lacking:
            return 0.0
        least = TINY if self._measure.is_owed else lacking
        used = 0.0 if self._window is None else self._window.used(now_s)
        if self._window is None or self._limit - used >= least:
            return HELD_WAIT_S  # it lacks only what is held, and may be given back
        return self._window.wait_s(max(least - free, 0.0), now_s)

    def _reset_s(self, now_s: float) -> float:
        return 0.0 if self._window is None else self._window.reset_s(now_s)
