"""Text front ends: from what a caller wrote to what the prompt holds, chosen by name."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import ConfigError, TextError
from pipeline.text.chinese import forms as chinese
from pipeline.text.english import forms as english
from pipeline.text.espeak import default_espeak
from pipeline.text.markup import without_markup
from pipeline.text.phonemes import FRONT_END_NAME, espeak_phonemes
from pipeline.text.scripts import Spoken, latinised
from pipeline.text.signs import outside_tags, without_drawings, without_signs
from pipeline.text.sounds import reading
from pipeline.text.unicode_forms import composed

_EAST_ASIAN_SCRIPTS = frozenset({"Chinese", "Japanese", "Korean", "Bopomofo"})
PLAIN_SPOKEN = Spoken(
    _EAST_ASIAN_SCRIPTS | {"Latin"}, "English, Chinese, Japanese and Korean"
)  # what the released checkpoint was trained on
TWO_SPOKEN = Spoken(frozenset({"Latin", "Chinese"}), "English and Chinese")

_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA_OR_HANGUL = re.compile("[\u3041-\u30fa\u30fc-\u30ff\uac00-\ud7a3]")
_NO_BEGINNING = " ,;:，；：、"  # left of a table or an emoji; espeak says "colon"
_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u024f]+")


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Both steps raise TextError without `param`, for a text that cannot be spoken.

    words: what a caller wrote → the words that will be said; lengths are judged by these.
    prompt: such words, or a part of them → what the prompt holds, the words or their phonemes.
    """

    words: Callable[[str], str]
    prompt: Callable[[str], str]


def plain_words(text: str) -> str:
    """For a checkpoint that reads text: one line of words, letters as they are.

    Nothing but white space and invisible characters gives "". Raises TextError: nothing that can be
    spoken, or a script that is not.
    """
    return _words(text, PLAIN_SPOKEN)


def two_language_words(text: str) -> str:
    """As `plain_words`, of English and Chinese; a few letters of other scripts become Latin."""
    return latinised(_words(text, TWO_SPOKEN), TWO_SPOKEN)


def _words(text: str, spoken: Spoken) -> str:
    text = composed(text)
    if not text.strip():
        return ""
    text = outside_tags(without_drawings, without_markup(text))
    spoken.require(text)
    text = " ".join(text.split())
    if written := _written_forms(text):
        text = outside_tags(written, text)
    text = " ".join(outside_tags(without_signs, text).split()).lstrip(_NO_BEGINNING)
    if not any(character.isalnum() for character in text):
        raise TextError("the text holds nothing that can be spoken")
    return text


def _written_forms(text: str) -> Callable[[str], str] | None:
    """The reader of numbers and their like for the language of most words; Japanese has none."""
    n_latin = len(_LATIN_WORD.findall(text))
    if len(_KANA_OR_HANGUL.findall(text)) > n_latin:
        return None
    if len(_IDEOGRAPH.findall(text)) > n_latin:
        return chinese.with_words
    return english.with_words


_FRONT_ENDS: dict[str | None, FrontEnd] = {
    None: FrontEnd(words=plain_words, prompt=str),
    FRONT_END_NAME: FrontEnd(words=two_language_words, prompt=espeak_phonemes),
    reading.FRONT_END_NAME: FrontEnd(words=two_language_words, prompt=reading.read_aloud),
}


def front_end(name: str | None) -> FrontEnd:
    """The front end that a checkpoint names; None is plain text. Loads what it reads with.

    Raises ConfigError listing the known names, or saying what to install.
    """
    if name not in _FRONT_ENDS:
        known = ", ".join("none" if known is None else known for known in _FRONT_ENDS)
        raise ConfigError(f"unknown text front end {name!r}, known: {known}", param="front_end")
    _warm()
    if name == FRONT_END_NAME:
        default_espeak()
    if name == reading.FRONT_END_NAME:
        reading.warm()
    return _FRONT_ENDS[name]


@functools.cache
def _warm() -> None:
    """Libraries load with the front end, not with the first request."""
    chinese.warm()
    two_language_words("“Ready” *now*, \u0645 and more.")
