"""What a text costs to speak: its weight in letters, and seconds at the rate of a reference."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

from pipeline.contracts import GROUP_S, VoicePrompt

S_PER_UNIT = 0.08  # seconds of speech for a unit of weight, which is a letter
TAG = re.compile(r"\[[A-Za-z-]+\]")
_RATE_RANGE = (0.5, 2.5)  # bounds of a reference's rate, relative to S_PER_UNIT
_WIDE_UNITS = 3.0  # a CJK character or a kana is a syllable
# Units of other characters, by Unicode's major category. Digits, symbols and marks may be words or
# silent: "1000000" is two words, "77" three, a rule of dashes none.
LEAST_UNITS = {"N": 1.0}
LIKELY_UNITS = {"N": 4.0, "S": 4.0}
MOST_UNITS = {"N": 8.0, "S": 8.0, "P": 1.0, "M": 1.0}
_SPOKEN_MARKS = "&@#%*/"  # punctuation to Unicode
_MODIFIER = "Sk"  # a symbol to Unicode: skin tones, the hook of a vowel


def weight_of(text: str, units: Mapping[str, float] = LIKELY_UNITS) -> float:
    """The weight of a text, in letters; tags such as "[Sigh]" have none."""
    return sum(_units(character, units) for character in TAG.sub("", text))


def s_per_unit(transcript: str, voice: VoicePrompt, units: Mapping[str, float]) -> float:
    """Seconds per letter in a reference, within bounds."""
    low, high = (S_PER_UNIT * factor for factor in _RATE_RANGE)
    weight = weight_of(transcript, units)
    return min(max(voice.n_groups * GROUP_S / weight, low), high) if weight else S_PER_UNIT


def expected_s(transcript: str, voice: VoicePrompt) -> Callable[[str], float]:
    """Text → its expected seconds in a voice, by the rate of the reference."""
    rate = s_per_unit(transcript, voice, LIKELY_UNITS)  # once: a text may have thousands of pieces
    return lambda text: weight_of(text, LIKELY_UNITS) * rate


def _units(character: str, units: Mapping[str, float]) -> float:
    category = unicodedata.category(character)
    if category[0] == "L":
        return _WIDE_UNITS if unicodedata.east_asian_width(character) in ("W", "F") else 1.0
    if category == _MODIFIER:
        return units.get("M", 0.0)
    return units.get("S" if character in _SPOKEN_MARKS else category[0], 0.0)
