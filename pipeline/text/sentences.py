"""Ends and pauses of sentences, where a text shows them by its layout alone."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.text.unicode_forms import EAST_ASIAN

_QUOTES = "\"'”’»)]）」』*_`~"  # that may stand behind the mark that ends a sentence
_MARKS = ".!?…:;,。！？：；，、"


def joined(blocks: Iterable[str]) -> str:
    """Blocks, one a line, blank ones left out; where another follows, its sentence is closed."""
    kept = [block for block in blocks if block.strip()]
    return "\n".join((*map(closed, kept[:-1]), *kept[-1:]))


def closed(text: str) -> str:
    """Text whose last sentence has its mark; empty and marked text stay as they are."""
    return _marked(text, ".", "。")


def paused(text: str) -> str:
    """Text that ends in a pause."""
    return _marked(text, ",", "，")


def _marked(text: str, narrow: str, wide: str) -> str:
    text = text.rstrip()
    last = text.rstrip(_QUOTES)[-1:]
    if not last or last in _MARKS:
        return text
    return text + (wide if EAST_ASIAN.match(last) else narrow)
