# pyright: basic
"""How long a chunk of prefill may be beside streams that run: what they wait is a set multiple.

Knows no model and no slot, only how long steps and chunks took.
"""

from __future__ import annotations

import statistics
from collections import deque

STRETCH = 1.4  # steps that a chunk may take: gaps grow to 2.4 steps, with room for a bad guess to 3
_LEAST_TOKENS = 4  # of a chunk, whatever it takes: a prefill must come to an end
_STEPS_KEPT = 33  # of which the median counts


class PrefillPace:
    """Follows the times measured: attention makes a token dearer the further back it is.

    Owned by the engine's worker.
    """

    def __init__(self, most_tokens: int) -> None:
        """`most_tokens`: of a chunk that nobody waits for, and the limit of any other."""
        self._most_tokens = most_tokens
        self._steps_s: deque[float] = deque(maxlen=_STEPS_KEPT)
        self._token_s: float | None = None

    def step_took(self, duration_s: float) -> None:
        """A step of all running streams."""
        self._steps_s.append(duration_s)

    def chunk_took(self, n_tokens: int, duration_s: float) -> None:
        """A chunk of prefill. A time twice that of the last one may be noise, and counts half."""
        token_s = duration_s / n_tokens
        if self._token_s is not None:
            token_s = min(max(token_s, self._token_s / 2), self._token_s * 2)
        self._token_s = token_s

    def tokens(self, *, has_waiting: bool) -> int:
        """Tokens of the next chunk; `has_waiting`: streams that run wait for it."""
        if not has_waiting:
            return self._most_tokens
        if self._token_s is None or not self._steps_s:
            return min(_LEAST_TOKENS, self._most_tokens)
        budget_s = STRETCH * statistics.median(self._steps_s)
        return min(max(int(budget_s / self._token_s), _LEAST_TOKENS), self._most_tokens)
