"""Text front ends: from what a caller wrote to what the prompt holds, chosen by name."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.errors import ConfigError, TextError
from pipeline.text.dictionary import pronounced
from pipeline.text.espeak import default_espeak
from pipeline.text.languages import in_written_out_words
from pipeline.text.markup import without_markup
from pipeline.text.options import AS_USUAL, Reading
from pipeline.text.pauses import with_marks, without_pauses
from pipeline.text.phonemes import FRONT_END_NAME, espeak_phonemes
from pipeline.text.scripts import Spoken, latinised
from pipeline.text.signs import outside_tags, without_drawings, without_signs
from pipeline.text.sounds import reading as sounds
from pipeline.text.ssml.document import without_ssml
from pipeline.text.tags import joined
from pipeline.text.unicode_forms import composed

_EAST_ASIAN_SCRIPTS = frozenset({"Chinese", "Japanese", "Korean", "Bopomofo"})
PLAIN_SPOKEN = Spoken(
    _EAST_ASIAN_SCRIPTS | {"Latin"}, "English, Chinese, Japanese and Korean"
)  # what the released checkpoint was trained on
TWO_SPOKEN = Spoken(frozenset({"Latin", "Chinese"}), "English and Chinese")

_MOST_READINGS = 4  # of odd mixtures of signs; ordinary text needs one, and one that finds it so
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
_NO_BEGINNING = " ,;:，；：、"  # left of a table or an emoji; espeak says "colon"


class Words(Protocol):
    """A front end's first step."""

    def __call__(self, text: str, reading: Reading = AS_USUAL) -> str:
        """What a caller wrote → the words that will be said, pauses as `[pause:500ms]`."""
        ...


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Both steps raise TextError without `param`, for a text that cannot be spoken.

    words: what a caller wrote → the words that will be said; lengths are judged by these.
    prompt: such words, or a part of them → what the prompt holds, the words or their phonemes.
    """

    words: Words
    prompt: Callable[[str], str]


def plain_words(text: str, reading: Reading = AS_USUAL) -> str:
    """For a checkpoint that reads text: one line of words, letters as they are.

    Nothing but white space and invisible characters gives "". Raises TextError: nothing that can be
    spoken, a script that is not, SSML or a pause that is not served.
    """
    return _words(text, PLAIN_SPOKEN, reading)


def two_language_words(text: str, reading: Reading = AS_USUAL) -> str:
    """As `plain_words`, of English and Chinese; a few letters of other scripts become Latin."""
    return latinised(_words(text, TWO_SPOKEN, reading), TWO_SPOKEN)


def _words(text: str, spoken: Spoken, reading: Reading) -> str:
    """Read until nothing changes any more: words that are read again are the same words."""
    said = _read(text, spoken, reading)
    again = replace(reading, pronunciations=())
    for _ in range(_MOST_READINGS):
        before, said = said, _read(said, spoken, again)
        if said == before:
            break
    return said


def _read(text: str, spoken: Spoken, reading: Reading) -> str:
    text = composed(text)
    if not text.strip():
        return ""
    text = _in_paragraphs(without_markup(with_marks(without_ssml(text))))
    if reading.pronunciations:
        text = pronounced(text, reading.pronunciations)
    text = outside_tags(without_drawings, text)
    spoken.require(text)
    text = " ".join(text.split())
    if reading.is_normalised:
        text = outside_tags(in_written_out_words, text)
        text = outside_tags(without_signs, text)
    text = " ".join(text.split()).lstrip(_NO_BEGINNING)
    if not any(character.isalnum() for character in without_pauses(text)):
        raise TextError("the text holds nothing that can be spoken")
    return text


def _in_paragraphs(text: str) -> str:
    """Text whose paragraphs end as sentences do, so that a heading does not run into the next."""
    return joined(_PARAGRAPH.split(text)) if _PARAGRAPH.search(text) else text


_FRONT_ENDS: dict[str | None, FrontEnd] = {
    None: FrontEnd(words=plain_words, prompt=str),
    FRONT_END_NAME: FrontEnd(words=two_language_words, prompt=espeak_phonemes),
    sounds.FRONT_END_NAME: FrontEnd(words=two_language_words, prompt=sounds.read_aloud),
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
    if name == sounds.FRONT_END_NAME:
        sounds.warm()
    return _FRONT_ENDS[name]


@functools.cache
def _warm() -> None:
    """Libraries load with the front end, not with the first request."""
    two_language_words("“Ready” *now*, \u0645 and more.")
