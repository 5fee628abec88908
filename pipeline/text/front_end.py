"""Text front ends: from what a caller wrote to what the prompt holds, chosen by name.

Knows no tokenizer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from pipeline.errors import ConfigError
from pipeline.text.phonemes import FRONT_END_NAME, espeak_phonemes

FrontEnd = Callable[[str], str]

_JOINERS = "\u200c\u200d"  # format characters that scripts and emoji need
_INVISIBLE = ("Cc", "Cf")  # control and format characters


def plain(text: str) -> str:
    """White space becomes single spaces, ends are stripped, control and format characters go."""
    spaced = " ".join(text.split())
    return "".join(
        c for c in spaced if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE
    ).strip()


def phonemes(text: str) -> str:
    """English as phonemes, for the embedded checkpoint."""
    return espeak_phonemes(plain(text))


_FRONT_ENDS: dict[str | None, FrontEnd] = {None: plain, FRONT_END_NAME: phonemes}


def front_end(name: str | None) -> FrontEnd:
    """The front end that a checkpoint names; None is plain text.

    Raises ConfigError listing the known names.
    """
    if name not in _FRONT_ENDS:
        known = ", ".join("none" if known is None else known for known in _FRONT_ENDS)
        raise ConfigError(f"unknown text front end {name!r}, known: {known}", param="front_end")
    return _FRONT_ENDS[name]
