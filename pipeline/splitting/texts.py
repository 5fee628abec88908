"""Texts in parts: passages behind their dialect tags, and marked text by the words of its parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from pipeline.edit_values import DIALECT_TAGS, PARALINGUISTIC_TAGS
from pipeline.errors import TextError
from pipeline.text.segment import passages

_TAGS = "|".join(map(re.escape, PARALINGUISTIC_TAGS))
_LEADING_TAGS = re.compile(rf"(?:(?:{'|'.join(map(re.escape, DIALECT_TAGS))})\s*)+")
_TAG_OR_CHARACTER = re.compile(rf"{_TAGS}|.", re.DOTALL)
# What belongs to the word in front of it: marks, and tags behind them.
_BEHIND = re.compile(rf"(?:[^\w\s\[]|\s*(?:{_TAGS}))*")


def tagged_passages(text: str, cost: Callable[[str], float], limit: float) -> list[str]:
    """See `passages`; the dialect tags in front of the text stand in front of each."""
    lead = leading_tags(text)
    return [lead + part for part in passages(text[len(lead) :], cost, limit)]


def leading_tags(text: str) -> str:
    """The dialect tags in front of a text, with the white space behind them."""
    tags = _LEADING_TAGS.match(text)
    return tags.group() if tags else ""


def split_as(text: str, words: Sequence[str]) -> list[str]:
    """`text`, which is `words` in a row with tags added, cut where these are; tags stay in place.

    A tag between two parts belongs to the first. Letters and digits count alone, whatever their
    case. Raises TextError where the words are others.
    """
    if len(words) == 1:
        return [text]
    lengths = [sum(1 for _ in _letters(part)) for part in words]
    said = "".join(letter for part in words for _, letter in _letters(part))
    found = list(_letters(text))
    if "".join(letter for _, letter in found) != said:
        raise TextError(
            "the new text must have the words of the audio, with tags added: the audio is edited "
            f"in {len(words)} parts, and only equal words say which tag belongs where"
        )
    parts, start, at = list[str](), 0, 0
    for length in lengths[:-1]:
        at += length
        end = _end_behind(text, found[at - 1][0]) if at else start
        parts.append(text[start:end].strip())
        start = end
    return [*parts, text[start:].strip()]


def _letters(text: str) -> Iterator[tuple[int, str]]:
    """Letters and digits outside of tags, folded, each with the end of its place."""
    for piece in _TAG_OR_CHARACTER.finditer(text):
        if piece.group().isalnum():
            yield piece.end(), piece.group().casefold()


def _end_behind(text: str, word_end: int) -> int:
    found = _BEHIND.match(text, word_end)
    return word_end if found is None else found.end()
