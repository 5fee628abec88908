"""A long text in segments: what is spoken in one answer each, and the silence behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.splitting.texts import leading_tags
from pipeline.splitting.weights import weight_of
from pipeline.text.segment import passages, sentence_ends

FIRST_UNITS = 100.0  # letters of the first segment, some 8 s of speech: it is soon complete
MOST_UNITS = 250.0  # letters of a later one, some 20 s: one answer in all but the slowest voices
SENTENCE_PAUSE_S, PARAGRAPH_PAUSE_S = 0.15, 0.6  # beside the silence that an answer ends with
_SPACE = re.compile(r"\s+")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a long text, spoken in one answer."""

    text: str
    """Its characters, behind the dialect tags that stand in front of the whole text."""
    start: int
    """Of its characters in the whole text; white space between segments is in none."""
    end: int
    pause_s: float
    """Silence behind it; 0 within a sentence, and behind the last."""


def segments(
    text: str, *, first_units: float = FIRST_UNITS, most_units: float = MOST_UNITS
) -> tuple[Segment, ...]:
    """`text` in whole sentences, as many together as weigh at most `most_units` letters.

    A sentence above that is cut as `passages` cuts it. Segments end where paragraphs do. The first
    holds the sentences within `first_units`, one at least. White space alone has no segments.
    """
    lead = leading_tags(text)
    found = [
        replace(piece, text=lead + piece.text)
        for piece in _pieces(text, len(lead), first_units, most_units)
    ]
    if found:
        found[-1] = replace(found[-1], pause_s=0.0)
    return tuple(found)


def _pieces(text: str, start: int, first_units: float, most_units: float) -> Iterator[Segment]:
    is_first = True
    for begin, end in _paragraphs(text, start):
        paragraph = text[begin:end]
        n_first = _first_end(paragraph, first_units) if is_first else 0
        parts = passages(paragraph[:n_first], weight_of, most_units) if n_first else []
        if rest := paragraph[n_first:].strip():
            parts += passages(rest, weight_of, most_units)
        is_first, at = False, begin
        ends = {begin + place for place in sentence_ends(paragraph)}
        for number, part in enumerate(map(str.strip, parts), 1):
            place = text.index(part, at)
            at = place + len(part)
            pause_s = PARAGRAPH_PAUSE_S
            if number < len(parts):
                pause_s = SENTENCE_PAUSE_S if _word_behind(text, at) in ends else 0.0
            yield Segment(part, place, at, pause_s)


def _paragraphs(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Where they begin and end, white space at the ends left out."""
    borders = [(border.start(), border.end()) for border in _PARAGRAPH.finditer(text, start)]
    begins = [start, *(end for _, end in borders)]
    ends = [*(begin for begin, _ in borders), len(text)]
    for begin, end in zip(begins, ends, strict=True):
        paragraph = text[begin:end]
        if words := paragraph.strip():
            first = begin + len(paragraph) - len(paragraph.lstrip())
            yield first, first + len(words)


def _first_end(paragraph: str, units: float) -> int:
    """Where the last sentence ends that is within `units`; the first one's end at least."""
    best = 0
    for end in sentence_ends(paragraph):
        if best and weight_of(paragraph[:end]) > units:
            break
        best = end
    return best or len(paragraph)


def _word_behind(text: str, at: int) -> int:
    """Where the white space at `at` ends."""
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
