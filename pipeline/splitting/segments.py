"""A long text in segments: what is spoken in one answer each, and the silence behind it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.splitting.texts import leading_tags
from pipeline.splitting.weights import weight_of
from pipeline.text.pauses import ASKED
from pipeline.text.segment import passages, sentence_ends

FIRST_UNITS = 100.0  # letters of the first segment, some 8 s of speech: it is soon complete
MOST_UNITS = 250.0  # letters of a later one, some 20 s: one answer in all but the slowest voices
SENTENCE_PAUSE_S, PARAGRAPH_PAUSE_S = 0.15, 0.6  # beside the silence that an answer ends with
_MOST_CHARS = 1_000  # of a segment: marks and blanks weigh nothing
_WINDOW_CHARS = 4_000  # looked at together: no work grows with the square of the text
_ENDLESS = 8  # a sentence of so many segments is none: its words are counted off
_SPACE = re.compile(r"\s+")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_WORDS = re.compile(r"\s*\S{1,80}")  # parts of a word without end as well


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

    Segments of a paragraph weigh about the same, and end where it does. A sentence above
    `most_units` is cut as `passages` cuts it. The first segment holds the sentences within
    `first_units`, one at least. White space alone has no segments. Time grows with the length.
    """
    lead = leading_tags(text)
    found = list[Segment]()
    for begin, end in _paragraphs(text, len(lead)):
        pieces = [
            piece
            for start, stop in _sentences(text, begin, end)
            for piece in _pieces(text, start, stop, most_units)
        ]
        found += _joined(text, pieces, 0.0 if found else first_units, most_units)
        found[-1] = replace(found[-1], pause_s=PARAGRAPH_PAUSE_S)
    if found:
        found[-1] = replace(found[-1], pause_s=0.0)
    return tuple(replace(part, text=lead + part.text) for part in found)


def spoken_segments(text: str) -> list[Segment]:
    """Segments with a letter or digit; pauses that stand alone go with the segment before."""
    spoken, pauses = list[Segment](), ""
    for part in segments(text):
        if any(map(str.isalnum, ASKED.sub("", part.text))):
            spoken.append(replace(part, text=pauses + part.text))
            pauses = ""
            continue
        asked = "".join(f"{pause} " for pause in [found[0] for found in ASKED.finditer(part.text)])
        if spoken and asked:
            last = spoken[-1]
            spoken[-1] = replace(last, text=f"{last.text} {asked}".rstrip(), end=part.end)
        else:
            pauses += asked
    return spoken


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence, or a part of a long one; without white space at its ends."""

    start: int
    end: int
    units: float
    ends_sentence: bool


def _joined(
    text: str, pieces: list[_Piece], first_units: float, most_units: float
) -> Iterator[Segment]:
    """Pieces of a paragraph, filled evenly. first_units: of its first segment; 0 as of any."""
    at = 0
    if first_units:
        at = 1 + _n_within(pieces[1:], first_units - pieces[0].units)
        yield _segment(text, pieces[:at])
    left_units = sum(piece.units for piece in pieces[at:])
    while at < len(pieces):
        n_segments = max(1, math.ceil(left_units / most_units))
        even_units = left_units / n_segments
        n, units = 1, pieces[at].units
        while at + n < len(pieces):
            following = pieces[at + n]
            is_full = units + following.units > most_units
            is_even = units + following.units / 2 > even_units
            if is_full or is_even or following.end - pieces[at].start > _MOST_CHARS:
                break
            n, units = n + 1, units + following.units
        yield _segment(text, pieces[at : at + n])
        at, left_units = at + n, left_units - units


def _segment(text: str, pieces: list[_Piece]) -> Segment:
    start, last = pieces[0].start, pieces[-1]
    pause_s = SENTENCE_PAUSE_S if last.ends_sentence else 0.0
    return Segment(text[start : last.end], start, last.end, pause_s)


def _n_within(pieces: list[_Piece], units: float) -> int:
    """How many of the first pieces weigh at most `units` together."""
    for number, piece in enumerate(pieces):
        units -= piece.units
        if units < 0 or piece.end - pieces[0].start > _MOST_CHARS:
            return number
    return len(pieces)


def _paragraphs(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Where they begin and end, white space at the ends left out."""
    begin = start
    for border in _PARAGRAPH.finditer(text, start):
        yield from _stripped(text, begin, border.start())
        begin = border.end()
    yield from _stripped(text, begin, len(text))


def _sentences(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Of a paragraph, where they begin and end."""
    while begin < end:
        window = text[begin : min(begin + _WINDOW_CHARS, end)]
        borders = [border for border in sentence_ends(window) if border < len(window)]
        if begin + len(window) == end:
            borders.append(len(window))
        elif not borders:
            borders.append(_last_space(window) or len(window))
        start = 0
        for border in borders:
            yield from _stripped(text, begin + start, begin + border)
            start = border
        begin += start


def _pieces(text: str, start: int, end: int, most_units: float) -> Iterator[_Piece]:
    """A sentence, whole where it is short enough."""
    sentence = text[start:end]
    units = weight_of(sentence)
    if units <= most_units and len(sentence) <= _MOST_CHARS:
        yield _Piece(start, end, units, ends_sentence=True)
        return
    if units > _ENDLESS * most_units or len(sentence) > _MOST_CHARS:
        parts = [word.group().strip() for word in _WORDS.finditer(sentence)]
    else:
        parts = passages(sentence, weight_of, most_units)
    at = start
    for number, part in enumerate(parts, 1):
        begin = text.index(part, at)
        at = begin + len(part)
        yield _Piece(begin, at, weight_of(part), ends_sentence=number == len(parts))


def _stripped(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """A part without the white space at its ends; none that holds nothing else."""
    part = text[begin:end]
    if words := part.strip():
        first = begin + len(part) - len(part.lstrip())
        yield first, first + len(words)


def _last_space(window: str) -> int:
    """Behind the last white space; 0 where there is none."""
    return max((space.end() for space in _SPACE.finditer(window)), default=0)
