"""What was spent in the last minute or day, and what of it is still owed."""

from __future__ import annotations

from collections import deque

TINY = 1e-9  # of a sum of fractions
SLOTS = 60  # of a window: what was spent leaves it up to a sixtieth later than it could


class Window:
    """Amounts of the last `window_s` seconds, at most `limit` of them.

    What is spent beyond the limit is owed: it takes up the room that comes free next, so that over
    time nobody gets more than the limit a window. Times are those of one monotonic clock.
    """

    __slots__ = ("_leaving", "_owed", "_spent", "limit", "window_s")

    def __init__(self, window_s: float, limit: float) -> None:
        self.window_s, self.limit = window_s, limit
        self._leaving: deque[tuple[float, float]] = deque()  # when it leaves, how much; in order
        self._spent = self._owed = 0.0

    def used(self, now_s: float) -> float:
        """Spent within the window, what is owed included."""
        self._look(now_s)
        return self._spent + self._owed

    def spend(self, amount: float, now_s: float) -> None:
        """Spend, whether there is room or not; a negative amount is given back."""
        self._look(now_s)
        if amount < 0:
            self._give_back(-amount)
            return
        fits = min(amount, max(self.limit - self._spent, 0.0))
        self._owed += amount - fits
        if fits:
            width_s = self.window_s / SLOTS
            self._add((now_s // width_s + 1) * width_s + self.window_s, fits)

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until so much of what is used now has left, if nothing else is spent."""
        self._look(now_s)
        rounds = 0.0
        if amount > self._spent:  # what is owed fills the window again, as often as it takes
            rounds = (amount - self._spent) // self.limit + 1
            amount -= rounds * self.limit
        after_s = 0.0
        for leaves_s, one in self._leaving:
            if amount <= TINY:
                break
            amount, after_s = amount - one, leaves_s - now_s
        return after_s + rounds * self.window_s

    def reset_s(self, now_s: float) -> float:
        """Seconds until nothing is used any more."""
        used = self.used(now_s)
        return self.wait_s(used, now_s) if used > 0 else 0.0

    def _look(self, now_s: float) -> None:
        while self._leaving and self._leaving[0][0] <= now_s:
            left_s, amount = self._leaving.popleft()
            self._spent -= amount
            if self._owed > 0:
                paid = min(self._owed, max(self.limit - self._spent, 0.0))
                self._owed -= paid
                self._add(left_s + self.window_s, paid)
        if not self._leaving:
            self._spent = 0.0  # sums of fractions do not end at nought by themselves

    def _add(self, leaves_s: float, amount: float) -> None:
        self._spent += amount
        if self._leaving and self._leaving[-1][0] >= leaves_s:
            leaves_s, before = self._leaving.pop()
            amount += before
        self._leaving.append((leaves_s, amount))

    def _give_back(self, amount: float) -> None:
        """The newest first."""
        from_owed = min(amount, self._owed)
        self._owed -= from_owed
        amount -= from_owed
        while amount > 0 and self._leaving:
            leaves_s, last = self._leaving.pop()
            self._spent -= last
            if last > amount:
                self._add(leaves_s, last - amount)
            amount -= last
