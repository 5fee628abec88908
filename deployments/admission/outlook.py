"""When one more answer can begin so that nobody runs dry and nothing comes too late."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deployments.admission.costs import ServiceCosts
from deployments.admission.forecast import Fate, forecast
from deployments.admission.line import Asked

SPARE_S = 0.05  # that a player has left when the next chunk is made: it has a way to go
CALM_S = 30.0  # in which what a listener who ran dry has taught fades by two thirds
STEP, MOST = 0.1, 1.0  # of headroom: more for each of them, and most of all
STEPS_S = (0.15, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # in which what is in hand grows
STEADY_ROWS = 48  # of a chunk, where nothing is in work


class Outlook:
    """Of one vocoder. Use it from one event loop. Batches are left out: they wait for all others.

    headroom: chunks are taken to be so many times slower than measured.
    """

    def __init__(self, costs: ServiceCosts, headroom: float) -> None:
        self._costs, self._headroom = costs, headroom
        self._extra = self._extra_s = 0.0
        self._underruns = self._seen = 0

    def ended(self, asked: Asked) -> None:
        """An answer is over."""
        self._underruns += asked.listener.underruns

    def capacity(self, running: Sequence[Asked], now_s: float) -> float:
        """Seconds of audio a second, headroom left aside."""
        rows = max((one.demand.chunk_rows[-1] for one in running), default=STEADY_ROWS)
        return self._costs.audio_rate(rows) / self._slower(running, now_s)

    def every_s(self, asked: Asked) -> float:
        """About how often an answer like this one ends when the vocoder is never idle."""
        return asked.demand.audio_s / self._costs.audio_rate(asked.demand.chunk_rows[-1])

    def is_good(self, running: Sequence[Asked], new: Sequence[Asked], now_s: float) -> bool:
        """Whether no player runs dry, and all whole answers are there in time.

        new: those that are to begin beside `running`, at their `begin_s` or now.
        """
        fates = self._fates(running, new, now_s)
        return all(
            fate.end_s <= one.due_s if one.is_whole else fate.late_s <= -SPARE_S
            for one, fate in zip((*running, *new), fates, strict=True)
        )

    def wait(
        self,
        running: Sequence[Asked],
        ahead: Sequence[Asked],
        asked: Asked,
        places: int,
        now_s: float,
    ) -> tuple[float, float]:
        """Seconds until it can begin behind those who wait, and by how much it is too late then.

        ahead: begin at their `begin_s`; so does it from now on. places: answers at a time.
        """
        ends = sorted(fate.end_s for fate in self._fates(running, ahead, now_s))
        soonest_s = max([now_s, *(one.begin_s for one in ahead)])
        must_end = len(ends) + 1 - places
        if must_end > 0:
            soonest_s = max(soonest_s, ends[min(must_end, len(ends)) - 1])
        later_s = (soonest_s + step_s for step_s in STEPS_S)
        tries = [soonest_s, *sorted([*later_s, *(at_s for at_s in ends if at_s > soonest_s)])]
        low, high = 0, len(tries) - 1
        while low < high:
            middle = (low + high) // 2
            asked.begin_s = tries[middle]
            if self.is_good(running, [*ahead, asked], now_s):
                high = middle
            else:
                low = middle + 1
        asked.begin_s = tries[low]
        fate = self._fates(running, [*ahead, asked], now_s)[-1]
        at_s = fate.end_s if asked.is_whole else fate.first_s
        return asked.begin_s - now_s, 0.0 if at_s is None else at_s - asked.due_s

    def _fates(self, running: Sequence[Asked], new: Sequence[Asked], now_s: float) -> list[Fate]:
        costs, slower = self._costs, self._slower(running, now_s)
        row_s, lead_in_s = costs.row_drawn_s, costs.lead_in_s
        courses = [one.course(now_s, row_s) for one in running]
        courses += [one.course(max(one.begin_s, now_s) + lead_in_s, row_s) for one in new]
        return forecast(courses, lambda rows: slower * costs.chunk_s(rows), now_s)

    def _slower(self, running: Sequence[Asked], now_s: float) -> float:
        """The headroom, and more of it after listeners ran dry, for a while."""
        self._extra *= math.exp(min(self._extra_s - now_s, 0.0) / CALM_S)
        self._extra_s = now_s
        seen = self._underruns + sum(one.listener.underruns for one in running)
        if seen > self._seen:
            self._extra = min(self._extra + STEP * (seen - self._seen), MOST)
            self._seen = seen
        return self._headroom + self._extra
