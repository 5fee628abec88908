# pyright: basic
"""Sizes prefill chunks so that decoding streams wait at most `STRETCH` steps."""

from __future__ import annotations

import statistics
from collections import deque

STRETCH = 1.4  # a chunk's length in steps: gaps grow to 2.4 steps, or to 3 after a bad estimate
_LEAST_TOKENS = 4  # of a chunk, however slow: a prefill must end
_STEPS_KEPT = 33  # of which the median counts


class PrefillPace:
    """Tracks measured times: attention makes later tokens more expensive.

    Owned by the engine's worker.
    """

    def __init__(self, most_tokens: int) -> None:
        """`most_tokens`: of a chunk with no stream waiting, and the limit of any other."""
        self._most_tokens = most_tokens
        self._steps_s: deque[float] = deque(maxlen=_STEPS_KEPT)
        self._token_s: float | None = None

    def step_took(self, duration_s: float) -> None:
        """Record a step of all running streams."""
        self._steps_s.append(duration_s)

    def chunk_took(self, n_tokens: int, duration_s: float) -> None:
        """Record a chunk of prefill. A time twice the last one may be noise and counts half."""
        token_s = duration_s / n_tokens
        if self._token_s is not None:
            token_s = min(max(token_s, self._token_s / 2), self._token_s * 2)
        self._token_s = token_s

    def tokens(self, *, has_waiting: bool) -> int:
        """Tokens of the next chunk; `has_waiting`: running streams wait for it."""
        if not has_waiting:
            return self._most_tokens
        if self._token_s is None or not self._steps_s:
            return min(_LEAST_TOKENS, self._most_tokens)
        budget_s = STRETCH * statistics.median(self._steps_s)
        return min(max(int(budget_s / self._token_s), _LEAST_TOKENS), self._most_tokens)
