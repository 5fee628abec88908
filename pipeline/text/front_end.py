"""Text front ends: from what a caller wrote to what the prompt holds, chosen by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.text.phonemes import FRONT_END_NAME, espeak_phonemes

_JOINERS = "\u200c\u200d"  # format characters that scripts and emoji need
_INVISIBLE = ("Cc", "Cf")  # control and format characters


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Both steps raise TextError without `param`, for a text that cannot be spoken.

    words: what a caller wrote → the words that will be said; lengths are judged by these.
    prompt: such words, or a part of them → what the prompt holds, the words or their phonemes.
    """

    words: Callable[[str], str]
    prompt: Callable[[str], str]


def plain(text: str) -> str:
    """White space becomes single spaces, ends are stripped, control and format characters go."""
    spaced = " ".join(text.split())
    return "".join(
        c for c in spaced if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE
    ).strip()


_FRONT_ENDS: dict[str | None, FrontEnd] = {
    None: FrontEnd(words=plain, prompt=str),
    FRONT_END_NAME: FrontEnd(words=plain, prompt=espeak_phonemes),
}


def front_end(name: str | None) -> FrontEnd:
    """The front end that a checkpoint names; None is plain text.

    Raises ConfigError listing the known names.
    """
    if name not in _FRONT_ENDS:
        known = ", ".join("none" if known is None else known for known in _FRONT_ENDS)
        raise ConfigError(f"unknown text front end {name!r}, known: {known}", param="front_end")
    return _FRONT_ENDS[name]
