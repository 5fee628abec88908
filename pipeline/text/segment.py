"""Splits a long text into passages, at places where a speaker would pause.

The caller says what a text costs to speak and what the limit of a passage is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.text.sentences import sentence_ends

_PAUSE = re.compile(r"[,;:،؛]+[\"'”’)\]»]*\s+|\s[-–—]+\s+|—+|[，、：；]+[」』）】》]*\s*")
_SPACE = re.compile(r"\s+")
# Cost of a cut by kind of border, in addition to the unfilled room of its passages.
_CUT_COSTS = (0.0, 0.5, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a text between two possible cuts."""

    text: str
    """Including the white space behind it."""
    cost: float
    """Cost of speaking it."""
    cut: float
    """Cost of a cut behind it."""


def passages(text: str, cost: Callable[[str], float], limit: float) -> list[str]:
    """`text` in parts that cost at most `limit` each, in order, white space at the ends gone.

    cost: additive over parts, 0 for unspoken text. Cuts at sentence ends; a sentence above `limit`
    is cut at its pauses, else between words, else between characters. Passages are filled evenly. A
    text within the limit is not cut.
    """
    if cost(text) <= limit:
        return [text]
    pieces = list(_pieces(text, cost, limit, level=0, cut=0.0))
    parts, start = [], 0
    for end in _ends(pieces, limit):
        parts.append("".join(piece.text for piece in pieces[start:end]).strip())
        start = end
    return parts


def _ends(pieces: list[_Piece], limit: float) -> list[int]:
    """Ends of passages, as indices of pieces: least total cost of cuts and unfilled room."""
    best, previous = [0.0], [0]
    for end in range(1, len(pieces) + 1):
        total, least, start = 0.0, float("inf"), end - 1
        for index in range(end - 1, -1, -1):
            total += pieces[index].cost
            if total > limit and index < end - 1:
                break
            made = best[index] + (1 - total / limit) ** 2 + (pieces[index - 1].cut if index else 0)
            if made <= least:
                least, start = made, index
        best.append(least)
        previous.append(start)
    ends, end = [], len(pieces)
    while end:
        ends.append(end)
        end = previous[end]
    return ends[::-1]


def _pieces(
    text: str, cost: Callable[[str], float], limit: float, level: int, cut: float
) -> Iterator[_Piece]:
    """`text` cut at the borders of `level`; parts still above the limit at the next level's.

    cut: cost of a cut behind the whole text.
    """
    parts = _cut_at(text, _BORDERS[level](text))
    for number, part in enumerate(parts, 1):
        behind = cut if number == len(parts) else _CUT_COSTS[level]
        part_cost = cost(part)
        if part_cost > limit and level + 1 < len(_BORDERS):
            yield from _pieces(part, cost, limit, level + 1, behind)
        else:
            yield _Piece(part, part_cost, behind)


def _cut_at(text: str, borders: Iterator[int]) -> list[str]:
    parts, start = [], 0
    for border in borders:
        if start < border < len(text):
            parts.append(text[start:border])
            start = border
    return [*parts, text[start:]]


def _pauses(text: str) -> Iterator[int]:
    return (mark.end() for mark in _PAUSE.finditer(text))


def _spaces(text: str) -> Iterator[int]:
    return (space.end() for space in _SPACE.finditer(text))


def _characters(text: str) -> Iterator[int]:
    """Before every character that does not belong to the one in front of it."""
    for index, character in enumerate(text):
        if not unicodedata.category(character).startswith(("M", "C")):
            yield index


_BORDERS: tuple[Callable[[str], Iterator[int]], ...] = (
    sentence_ends,
    _pauses,
    _spaces,
    _characters,
)
