"""Detects repetition loops, early stops and runaway generations in an answer's audio tokens.

The caller says how many tokens the text needs at least and at most.
"""

from __future__ import annotations

from collections import deque

from pipeline.contracts import GROUP_S, GROUP_TOKENS, TokenChunk, Verdict

LOOP_S = 3.0  # neither speech nor silence repeats exactly for this long
LOOP_PERIODS_GROUPS = range(1, 13)  # lengths of the repeated part, up to 1.44 s
LOOP_GROUPS = round(LOOP_S / GROUP_S)
_LEAST_REPEATS = 3
_KEPT_GROUPS = max(LOOP_GROUPS, LOOP_PERIODS_GROUPS[-1] * _LEAST_REPEATS)


class TokenGuard:
    """Judges one answer, chunk by chunk.

    least_tokens: lower bound for its text. most_tokens: upper bound for its text; None when the
    caller set a lower one. `n_tokens` and `verdict` cover the chunks so far.
    """

    def __init__(self, least_tokens: int, most_tokens: int | None) -> None:
        self._least_tokens, self._most_tokens = least_tokens, most_tokens
        self.n_tokens = 0
        self._recent: deque[bytes] = deque(maxlen=_KEPT_GROUPS)
        self.verdict = Verdict.OK

    def add(self, chunk: TokenChunk) -> None:
        """Add a chunk. The first fault found stays the verdict."""
        for group in chunk.ids.reshape(-1, GROUP_TOKENS):
            self._recent.append(group.tobytes())
            if self.verdict is Verdict.OK and goes_in_circles(self._recent):
                self.verdict = Verdict.LOOP
        self.n_tokens += len(chunk.ids)
        if chunk.last and self.verdict is Verdict.OK:
            self.verdict = self._at_end()

    def _at_end(self) -> Verdict:
        if self.n_tokens < self._least_tokens:
            return Verdict.SHORT
        if self._most_tokens is not None and self.n_tokens + GROUP_TOKENS > self._most_tokens:
            return Verdict.ENDLESS
        return Verdict.OK


def goes_in_circles(groups: deque[bytes]) -> bool:
    """Whether the end repeats up to 12 groups at least three times, for 3 s or more."""
    newest = list(groups)
    for period in LOOP_PERIODS_GROUPS:
        span = max(LOOP_GROUPS, period * _LEAST_REPEATS)
        if len(newest) >= span and newest[-span:-period] == newest[period - span :]:
            return True
    return False
