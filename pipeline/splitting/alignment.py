"""Which pause of a clip is which sentence's end, and how sure that is.

Every sentence is taken to end in a pause and to last about as long as its letters at the clip's own
rate; all ways to lay the sentences over the pauses are weighed against each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.splitting.pauses import SHORTEST_PAUSE_S, Pauses

# A sentence's length about what its letters say, standard deviation: a share of it and a constant.
_SPREAD, _SPREAD_S = 0.15, 0.25
_LONGER = (
    2.0  # a pause twice as long is a sentence's end, and no clause's, 2 ** this times as often
)
_WORST = 4.0  # standard deviations beyond which a text is not that of the clip
SURE = 0.95  # probability of a border that may be cut at

Float64Array = NDArray[np.float64]


def borders_at_pauses(pauses: Pauses, borders: Sequence[float]) -> Float64Array:
    """Probabilities, float64 (b, p): that border b is at pause p.

    borders: where sentences end, rising, as shares of the text's weight, (b,), the text's own end
    aside. All zeros where the sentences fit the pauses nowhere.
    """
    n_borders, n_pauses = len(borders), len(pauses.inner)
    none = np.zeros((n_borders, n_pauses))
    if not n_borders or n_pauses < n_borders:
        return none
    ends_s = np.array([pause.spoken_s for pause in pauses.inner])
    lasted = np.array([pause.length_s for pause in pauses.inner]) / SHORTEST_PAUSE_S
    likely = _LONGER * np.log(lasted)
    lengths_s = np.diff([0.0, *borders, 1.0]) * pauses.spoken_s
    apart_s = ends_s[np.newaxis] - ends_s[:, np.newaxis]
    steps = [_fit(apart_s, length_s) for length_s in lengths_s[1:-1]]
    forward = [_fit(ends_s, lengths_s[0]) + likely]
    for step in steps:
        forward.append(_log_sum(forward[-1][:, np.newaxis] + step, axis=0) + likely)
    backward = [_fit(pauses.spoken_s - ends_s, lengths_s[-1])]
    for step in reversed(steps):
        backward.insert(0, _log_sum(step + (likely + backward[0])[np.newaxis], axis=1))
    whole = _log_sum(forward[-1] + backward[-1], axis=0)
    if not np.isfinite(whole):
        return none
    return np.exp(np.array(forward) + np.array(backward) - whole)


def _fit(found_s: Float64Array, expected_s: float) -> Float64Array:
    """Log-densities of lengths; none for what is not forward in time or far too long or short."""
    spread_s = _SPREAD * expected_s + _SPREAD_S
    off = (found_s - expected_s) / spread_s
    fit = -0.5 * off**2 - math.log(spread_s)
    return np.where((found_s > 0) & (np.abs(off) <= _WORST), fit, -np.inf)


def _log_sum(values: Float64Array, axis: int) -> Float64Array:
    """log Σ exp along an axis; -inf for nothing."""
    return np.logaddexp.reduce(values, axis=axis, initial=-np.inf)
