"""Lists of hard sentences, written as a reader would read them: their sentences and their words.

A row of data/hard_….tsv: the text, its sentences with " | " between them, and, where it is to be
read, its words.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.front_end import two_language_words
from pipeline.text.options import Reading
from pipeline.text.sentences import sentences
from tests.unit.pipeline.text.losses import lost

pytestmark = pytest.mark.unit
DATA = Path(__file__).parent / "data"
BORDER = " | "
PARTS = 3  # of a list, each a test of its own

said = functools.cache(two_language_words)


def rows(language: str) -> list[tuple[str, str, str]]:
    """Text, sentences and words of each row."""
    lines = (DATA / f"hard_{language}.tsv").read_text(encoding="utf-8").splitlines()
    made = []
    for line in lines:
        text, parts, *words = line.split("\t")
        made.append((text, parts, words[0] if words else ""))
    return made


@pytest.mark.parametrize(
    ("language", "n_texts"), [("en", 200), ("zh", 200), ("ja", 60), ("ko", 60)]
)
def test_sentences_are_those_of_a_reader(language: str, n_texts: int) -> None:
    assert len(rows(language)) >= n_texts
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
    wrong = {text: found for text, words in read.items() if (found := said(text)) != words}
    assert not wrong
    again = {words: found for words in read.values() if (found := said(words)) != words}
    assert not again


def test_no_english_word_is_lost() -> None:
    read = [text for text, _, words in rows("en") if words]
    losses = {text: missing for text in read if (missing := lost(text, said(text)))}
    assert not losses


@pytest.mark.parametrize(
    ("text", "words", "missing"),
    [
        ("Dr. Lee paid $5.", "Doctor Lee paid five dollars.", []),
        ("Dr. Lee paid $5.", "Lee paid five dollars.", ["dr"]),
        ("Dr. Lee paid $5.", "Doctor paid five dollars.", ["lee"]),
        ("Dr. Lee paid $5.", "Doctor Lee paid dollars.", ["5"]),
        ("On 10/3/2024, again.", "On October third, twenty twenty-four, again.", []),
        ("On 10/3/2024, again.", "On October, twenty twenty-four, again.", ["3"]),
        ("On 10/3/2024, again.", "On October third, twenty-four, again.", ["2"]),
        ("the 11th, the 12th", "the eleventh, the twelfth", []),
        ("the 11th, the 12th", "the eleventh, the", ["1", "2"]),
        ("no, no, no", "no, no", ["no"]),
    ],
)
def test_a_lost_word_is_noticed(text: str, words: str, missing: list[str]) -> None:
    assert lost(text, words) == missing


def test_no_chinese_word_is_lost() -> None:
    """What was a word of letters alone is one still, in its place."""
    for text, _, words in rows("zh"):
        if words and "://" not in text:
            kept = iter(re.findall("[\u4e00-\u9fff]", said(text)))
            missing = [
                c
                for c in re.findall("[\u4e00-\u9fff]", text)
                if c not in kept and c not in "元每第"
            ]
            assert not missing, text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_not_normalised_keeps_its_digits(language: str) -> None:
    as_written = Reading(is_normalised=False)
    for text, _, words in rows(language):
        if words and not re.search(r"[*#\[\\]", text):
            kept = unicodedata.normalize("NFKC", two_language_words(text, as_written))
            written = unicodedata.normalize("NFKC", text)
            assert re.findall(r"\d", kept) == re.findall(r"\d", written), text


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
