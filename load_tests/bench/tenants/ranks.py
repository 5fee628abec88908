"""Whether two kinds of requests differ in time: by ranks, so that a slow moment is but noise."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import mannwhitneyu

ALPHA = 0.01  # of all comparisons of a run together
_STEPS = 12  # halvings of an interval: four digits


@dataclass(frozen=True, slots=True)
class Apart:
    """Times of requests for somebody's, and of the same for nobody's, which alternate by chance.

    effect: rank-biserial correlation, -1 to 1; 0 where either is as often the slower one. p: of
    Mann and Whitney's test, two-sided. found_from_s: a delay of somebody's alone that would have
    been told, from these very times.
    """

    n: int
    theirs_s: float
    """Median, as `nobodys_s`."""
    nobodys_s: float
    effect: float
    p: float
    is_told: bool
    found_from_s: float


def compare(theirs_s: Sequence[float], nobodys_s: Sequence[float], comparisons: int) -> Apart:
    """comparisons: in the run; the bar of each is so many times stricter (Bonferroni)."""
    most = ALPHA / comparisons
    rank_sum, p = _tested(theirs_s, nobodys_s)
    effect = 2 * rank_sum / (len(theirs_s) * len(nobodys_s)) - 1
    return Apart(
        len(theirs_s),
        statistics.median(theirs_s),
        statistics.median(nobodys_s),
        effect,
        p,
        p < most,
        _found_from_s(theirs_s, nobodys_s, most),
    )


def _tested(theirs_s: Sequence[float], nobodys_s: Sequence[float]) -> tuple[float, float]:
    found: Any = mannwhitneyu(theirs_s, nobodys_s, alternative="two-sided", method="asymptotic")
    return float(found.statistic), float(found.pvalue)


def _found_from_s(theirs_s: Sequence[float], nobodys_s: Sequence[float], most: float) -> float:
    def is_told(delay_s: float) -> bool:
        rank_sum, p = _tested([one + delay_s for one in theirs_s], nobodys_s)
        return p < most and 2 * rank_sum > len(theirs_s) * len(nobodys_s)

    short_s, long_s = 0.0, 1e-6
    while not is_told(long_s):
        short_s, long_s = long_s, 2 * long_s
        if long_s > max(nobodys_s):  # so few requests that nothing would be told
            return float("inf")
    for _ in range(_STEPS):
        middle_s = (short_s + long_s) / 2
        short_s, long_s = (short_s, middle_s) if is_told(middle_s) else (middle_s, long_s)
    return long_s
