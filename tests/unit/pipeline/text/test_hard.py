"""Lists of hard sentences, written as a reader would read them: their sentences and their words.

A row of data/hard_….tsv: the text, its sentences with " | " between them, and, where it is to be
read, its words.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.front_end import two_language_words
from pipeline.text.options import Reading
from pipeline.text.sentences import sentences

pytestmark = pytest.mark.unit
DATA = Path(__file__).parent / "data"
BORDER = " | "
PARTS = 3  # of a list, each a test of its own


def rows(language: str) -> list[tuple[str, str, str]]:
    """Text, sentences and words of each row."""
    lines = (DATA / f"hard_{language}.tsv").read_text(encoding="utf-8").splitlines()
    made = []
    for line in lines:
        text, parts, *words = line.split("\t")
        made.append((text, parts, words[0] if words else ""))
    return made


@pytest.mark.parametrize("language", ["en", "zh", "ja", "ko"])
def test_sentences_are_those_of_a_reader(language: str) -> None:
    wrong = {
        text: found
        for text, parts, _ in rows(language)
        if (found := sentences(text)) != parts.split(BORDER)
    }
    assert not wrong


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_are_those_of_a_reader_and_are_read_as_they_are(language: str, part: int) -> None:
    read = {text: words for text, _, words in rows(language) if words}
    assert len(read) >= 200
    read = dict(list(read.items())[part::PARTS])
    wrong = {
        text: said for text, words in read.items() if (said := two_language_words(text)) != words
    }
    assert not wrong
    again = {words: said for words in read.values() if (said := two_language_words(words)) != words}
    assert not again


@pytest.mark.parametrize("language", ["en", "zh", "ja", "ko"])
def test_no_character_is_lost_between_sentences(language: str) -> None:
    for text, _, _ in rows(language):
        assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_no_word_is_lost() -> None:
    """What was a word of letters alone is one still, in its place."""
    for text, _, words in rows("zh"):
        if words and "://" not in text:
            kept = iter(re.findall("[\u4e00-\u9fff]", words))
            missing = [
                c
                for c in re.findall("[\u4e00-\u9fff]", text)
                if c not in kept and c not in "元每第"
            ]
            assert not missing, (text, words)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_not_normalised_keeps_its_digits(language: str) -> None:
    as_written = Reading(is_normalised=False)
    for text, _, words in rows(language):
        if words and not re.search(r"[*#\[\\]", text):
            said = unicodedata.normalize("NFKC", two_language_words(text, as_written))
            written = unicodedata.normalize("NFKC", text)
            assert re.findall(r"\d", said) == re.findall(r"\d", written), text


_SIGNS = "年月日号点个第元万亿-–~/:.,%$€¥#@&+=()[]<> 0123456789 km GB ℃ am U.S. Dr. http://a.b/c x"


@pytest.mark.slow
@given(
    st.lists(st.sampled_from([*_SIGNS.split(), *"012345678:/.,-%$年月日点第 "]), max_size=12).map(
        "".join
    )
)
def test_words_of_any_mixture_are_read_as_they_are(text: str) -> None:
    words = two_language_words("好one " + text)
    assert two_language_words(words) == words
