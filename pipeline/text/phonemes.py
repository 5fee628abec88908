"""espeak's phoneme names as IPA symbols, and the text front end built on them.

Training aligns speech with the same symbols that the front end writes, from the same library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import TextError
from pipeline.text.espeak import EspeakVoice, PhoneEvent, default_espeak

FRONT_END_NAME = "espeak-phonemes"  # its name in a checkpoint's config
PAUSE = ","
WORD_BORDER = " "

_STRESS = "',"  # leading marks of primary and secondary stress
_PAUSES = ("_:",)
_SILENT = (
    "_",
    "_!",
    "_|",
    "||",
    ";",
    "@-",
    "(en)",
    "(cmn)",
)  # borders and glides that are no sound of their own

# Allophones that differ by context alone share a symbol.
_SYMBOLS = {
    "p": "p", "b": "b", "t": "t", "t#": "t", "t2": "t", "d": "d", "k": "k", "g": "g", "?": "ʔ",
    "f": "f", "v": "v", "T": "θ", "D": "ð", "s": "s", "z": "z", "S": "ʃ", "Z": "ʒ", "h": "h",
    "x": "k", "tS": "ʧ", "dZ": "ʤ", "m": "m", "n": "n", "n-": "n", "N": "ŋ", "l": "l",
    "@L": "l̩", "r": "ɹ", "r-": "ɹ", "j": "j", "w": "w", "i": "i", "i:": "i", "I": "ɪ",
    "I2": "ɪ", "I#": "ɪ", "E": "ɛ", "a": "æ", "V": "ʌ", "@": "ə", "@2": "ə", "a#": "ə",
    "3": "ɚ", "3:": "ɝ", "0": "ɑ", "A:": "ɑ", "aa": "ɑ", "O": "ɔ", "O:": "ɔ", "O2": "ɔ",
    "U": "ʊ", "u:": "u", "eI": "eɪ", "aI": "aɪ", "OI": "oɪ", "aU": "aʊ", "oU": "oʊ",
    "e@": "ɛ˞", "A@": "ɑ˞", "O@": "ɔ˞", "o@": "ɔ˞", "i@": "ɪ˞", "i@3": "ɪ˞", "U@": "ʊ˞",
    "aI@": "aɪ˞", "aI3": "aɪ˞",
}  # fmt: skip
# Mandarin in the nearest English sounds, so that a Chinese clip's transcript fits its sound.
_MANDARIN = {
    "A": "ɑ", "Au": "aʊ", "X": "h", "S;": "ʃ", "s.": "ʃ", "tS;": "ʤ", "ts.": "ʤ", "tS;h": "ʧ",
    "ts.h": "ʧ", "ts": "ts", "tsh": "ts", "th": "t", "ph": "p", "kh": "k", "z.": "ɹ", "y": "ju",
    "ong": "ʊŋ", "iE": "jɛ", "iA": "jɑ", "iou": "joʊ", "uo": "wɔ", "uei": "weɪ", "ua": "wɑ",
    "uai": "waɪ", "u@": "wə", "u": "u", "o": "ɔ", "o-": "ə", "ei": "eɪ", "ai": "aɪ", "ou": "oʊ",
    "i.": "ɪ", "i[": "ə", "y&": "jʊ", "y@": "jə", "yE": "jɛ", "@r": "ɑ˞", "yi": "ji",
}  # fmt: skip
_SYMBOLS_OF_ALL = _SYMBOLS | _MANDARIN
_MANDARIN_VOICE = EspeakVoice("cmn")
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
UNKNOWN = "ə"  # for a mnemonic of another language's phoneme table

PHONES: tuple[str, ...] = tuple(dict.fromkeys(_SYMBOLS.values()))  # every sound, in fixed order


@dataclass(frozen=True, slots=True)
class Phone:
    """A sound with its start at espeak's rate."""

    symbol: str
    """One of PHONES (several for some Mandarin sounds), PAUSE for silence, or WORD_BORDER."""
    start_samples: int


def phones_of(events: Iterable[PhoneEvent]) -> list[Phone]:
    """Events in order of time → symbols in order of time."""
    phones = []
    for event in events:
        name = event.mnemonic
        if not name:
            phones.append(Phone(WORD_BORDER, event.start_samples))
        elif name in _PAUSES:
            phones.append(Phone(PAUSE, event.start_samples))
        elif name not in _SILENT:
            symbol = _SYMBOLS_OF_ALL.get(name.lstrip(_STRESS), UNKNOWN)
            phones.append(Phone(symbol, event.start_samples))
    return phones


def written(phones: Iterable[Phone]) -> str:
    """Symbols as one string.

    Sounds side by side, a border between words, a pause mark between clauses.
    """
    text = ""
    for phone in phones:
        symbol = phone.symbol
        if symbol == WORD_BORDER and (not text or text[-1] in (WORD_BORDER, PAUSE)):
            continue
        if symbol == PAUSE:
            text = text.rstrip(WORD_BORDER)
            if not text or text[-1] == PAUSE:
                continue
        text += symbol
    return text.rstrip(WORD_BORDER + PAUSE)


def espeak_phonemes(text: str) -> str:
    """The front end: English text → phonemes; Chinese in the nearest English sounds.

    Raises TextError when nothing in the text can be spoken.
    """
    voice = _MANDARIN_VOICE if _IDEOGRAPH.search(text) else None
    spoken = written(phones_of(default_espeak().speak(text, voice).events))
    if not spoken:
        raise TextError("the text holds nothing that can be spoken")
    return spoken
