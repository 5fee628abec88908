"""Written forms as words, each sentence in its own language."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.text.chinese import forms as chinese
from pipeline.text.english import forms as english
from pipeline.text.scripts import language_of
from pipeline.text.sentences import sentence_ends

_READERS: dict[str, Callable[[str], str]] = {"en": english.with_words, "zh": chinese.with_words}


def in_written_out_words(text: str) -> str:
    """Numbers and their like as words; Japanese and Korean stay as they are.

    A sentence without words of its own has the language of the whole text.
    """
    return "".join(
        _READERS[language](part) if language in _READERS else part for language, part in _runs(text)
    )


def _runs(text: str) -> Iterator[tuple[str, str]]:
    """Sentences in a row that have one language, with the white space behind them."""
    usual = language_of(text)
    if text.isascii():
        yield usual, text
        return
    start, at, last = 0, 0, ""
    for end in (*sentence_ends(text), len(text)):
        sentence = text[at:end]
        language = language_of(sentence) if any(map(str.isalpha, sentence)) else last or usual
        if last and language != last:
            yield last, text[start:at]
            start = at
        at, last = end, language
    yield last, text[start:]
