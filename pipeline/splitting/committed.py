"""Text that comes in pieces, committed to be spoken as soon as a part of it stands.

How a text is cut into pieces changes nothing: neither what is committed nor where it ends.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Literal

from pipeline.splitting.weights import weight_of
from pipeline.text.segment import sentence_ends

Granularity = Literal["none", "sentence", "clause"]

MOST_CHARS = 500  # of a sentence without an end; then it is cut between words
ALL_BORDERS, EVERY_BORDER = 24, 8  # looked at in one sentence: so many, then only each eighth
LEAST_CLAUSE_UNITS = 12.0  # letters: a shorter clause is over before the next one is made
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH_SURROGATES = range(0xD800, 0xDC00)
# What stands between two words. Whether it ends anything is known with the first letter behind it.
_BETWEEN = re.compile(r"(?<!\W)\W++(?=\w)")
_JOINING = frozenset(" '’-‐")  # between words, and the end of nothing
_CLAUSE = re.compile(r"[,;:،؛]+[\"'”’)\]»]*\s+|\s[-–—]+\s+|—+|[，、：；]+[\"'”’」』）】》]*\s*")
_SPACE = re.compile(r"\s+")
_SPOKEN = "LNS"  # Unicode's major categories of what may be said: letters, numbers, symbols


class Committer:
    """One text after the other. none: a text is committed at its end, whatever its length."""

    def __init__(self, granularity: Granularity, most_chars: int = MOST_CHARS) -> None:
        self._granularity = granularity
        self._most_chars = most_chars
        self._held = self._half = ""
        self._n_looked_at = 0  # characters whose borders end nothing
        self._n_borders = 0

    @property
    def held(self) -> str:
        """What came and is not committed."""
        return self._held + self._half

    def feed(self, piece: str) -> list[str]:
        """Parts that `piece` completes, white space behind them included."""
        piece, self._half = _halves_joined(self._half + piece), ""
        if piece and ord(piece[-1]) in _HIGH_SURROGATES:
            piece, self._half = piece[:-1], piece[-1]
        self._held += piece
        return [] if self._granularity == "none" else list(self._committed())

    def finish(self) -> list[str]:
        """The rest, at most one part. The next piece begins another text."""
        rest, self._half = self.held, ""
        self._begin("")
        return [rest] if rest else []

    def _committed(self) -> Iterator[str]:
        while end := self._next_end():
            yield self._held[:end]
            self._begin(self._held[end:])

    def _begin(self, held: str) -> None:
        self._held = held
        self._n_looked_at = self._n_borders = 0

    def _next_end(self) -> int:
        """Where the first part ends that stands; 0 while none does."""
        for border in _BETWEEN.finditer(self._held, self._n_looked_at):
            if border.end() >= self._most_chars:
                break
            self._n_looked_at = border.end()
            if _JOINING.issuperset(border.group()):
                continue
            self._n_borders += 1
            if self._n_borders < ALL_BORDERS or self._n_borders % EVERY_BORDER == 0:
                known = self._held[: border.end() + 1]
                if end := max(filter(is_speakable_to(known), self._ends(known)), default=0):
                    return end
        if len(self._held) <= self._most_chars:
            return 0
        return _last_space(self._held, self._most_chars)

    def _ends(self, known: str) -> Iterator[int]:
        """Of sentences and, where they are wanted, clauses; before the last character."""
        clauses = _clause_ends(known) if self._granularity == "clause" else iter(())
        return (end for end in chain(sentence_ends(known), clauses) if end < len(known))


def is_speakable(text: str) -> bool:
    """Whether there is anything in it that may be said; marks alone are not."""
    return any(unicodedata.category(character)[0] in _SPOKEN for character in text)


def is_speakable_to(text: str) -> Callable[[int], bool]:
    """Whether there is anything to be said before a place in `text`."""
    first = next((i for i, character in enumerate(text) if is_speakable(character)), len(text))
    return lambda end: first < end


def _clause_ends(text: str) -> Iterator[int]:
    for mark in _CLAUSE.finditer(text):
        if weight_of(text[: mark.start()]) >= LEAST_CLAUSE_UNITS:
            yield mark.end()


def _last_space(text: str, limit: int) -> int:
    """Behind the last white space up to `limit`; at the limit where there is none."""
    end = max((space.end() for space in _SPACE.finditer(text[:limit])), default=0)
    while not end and limit > 1 and unicodedata.category(text[limit])[0] == "M":
        limit -= 1  # a mark stays with the letter that it belongs to
    return end or limit


def _halves_joined(text: str) -> str:
    """Halves of a character that stand together, as its one character."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
