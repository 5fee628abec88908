"""What is committed of a text in pieces: all of it, in order, the same however it is cut."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.splitting.committed import MOST_CHARS, Committer, Granularity, is_speakable

pytestmark = pytest.mark.unit
GRANULARITIES: list[Granularity] = ["none", "sentence", "clause"]
WORDS = st.sampled_from(
    [
        "Hello", "dr", "Dr", "I", "3", "14", "No", "the", "你好", "世界", "日本", "😀", "e\u0301",
        "[Sigh]", "http://a.b/c?d", "J", "🇩🇪", "مرحبا",
    ]
)  # fmt: skip
MARKS = st.sampled_from(
    [
        " ", ". ", ".", "... ", "! ", "?", '." ', ", ", "，", "。", "！」", "\n", "\n\n", " — ",
        "; ", ": ", "-",
    ]
)  # fmt: skip
TEXTS = st.lists(st.tuples(WORDS, MARKS), max_size=25).map(
    lambda pairs: "".join(map("".join, pairs))
)


def committed(text: str, granularity: Granularity, cuts: list[int], most: int = 60) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    committer = Committer(granularity, most)
    found: list[str] = []
    for start, end in itertools.pairwise(places):
        found += committer.feed(text[start:end])
    return found + committer.finish()


@settings(max_examples=60)
@given(TEXTS | st.text(), st.sampled_from(GRANULARITIES), st.lists(st.integers(0, 10_000)))
def test_all_is_committed_and_pieces_change_nothing(
    text: str, granularity: Granularity, cuts: list[int]
):
    whole = committed(text, granularity, [])
    assert "".join(whole) == text
    assert committed(text, granularity, cuts) == whole
    assert committed(text, granularity, list(range(len(text)))) == whole
    assert all(is_speakable(part) or len(part) >= 60 for part in whole[:-1])


@settings(max_examples=40)
@given(st.text(max_size=30), st.lists(st.integers(0, 10_000)))
def test_a_character_in_two_halves_is_one_again(text: str, cuts: list[int]):
    """As JSON has it: in UTF-16, where a piece may end within a character."""
    code = text.encode("utf-16-le")
    halves = "".join(chr(int.from_bytes(code[i : i + 2], "little")) for i in range(0, len(code), 2))
    assert "".join(committed(halves, "sentence", cuts)) == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello there. How are you? Fine", ["Hello there. ", "How are you? ", "Fine"]),
        ("Pi is 3.14 or so. Dr. Who said no. 5 is odd.", None),
        ("你好。我很好！再见", ["你好。", "我很好！", "再见"]),
        ("Line one\nLine two", ["Line one\n", "Line two"]),
        ("...! Well. Yes", ["...! Well. ", "Yes"]),
        ('He said "No." Then he left', ['He said "No." ', "Then he left"]),
    ],
)
def test_sentences_are_committed_as_they_stand(text: str, parts: list[str] | None):
    found = committed(text, "sentence", list(range(len(text))), MOST_CHARS)
    assert "".join(found) == text
    assert not any(part.endswith(("3.", "Dr. ", "no. ")) for part in found)
    if parts is not None:
        assert found == parts


def test_a_sentence_stands_with_the_first_letter_behind_it():
    committer = Committer("sentence")
    assert committer.feed("Hello there.") == []
    assert committer.feed(" ") == []
    assert committer.feed("N") == ["Hello there. "]
    assert committer.held == "N"


def test_a_number_in_two_pieces_is_one():
    committer = Committer("sentence")
    assert committer.feed("It is 3.") == []
    assert committer.feed("14 in") == []
    assert committer.finish() == ["It is 3.14 in"]


def test_clauses_of_a_second_or_more_are_committed():
    committer = Committer("clause")
    assert committer.feed("Yes, of course we can, if you like") == ["Yes, of course we can, "]
    assert committer.finish() == ["if you like"]
    assert committer.feed("今天天气很好，我们去公园吧") == ["今天天气很好，"]


def test_nothing_is_committed_before_the_end_where_nothing_is_to_be():
    committer = Committer("none")
    assert committer.feed("One. Two. " * 1_000) == []
    assert committer.finish() == ["One. Two. " * 1_000]
    assert committer.finish() == []


def test_a_sentence_without_an_end_is_cut_between_words():
    words = "word " * 500
    parts = committed(words, "sentence", list(range(0, 2_500, 7)), MOST_CHARS)
    assert "".join(parts) == words
    assert all(len(part) <= MOST_CHARS and part.endswith(" ") for part in parts)
    marks = "a" + "\u0301" * 1_500
    assert "".join(committed(marks, "sentence", [], MOST_CHARS)) == marks


@pytest.mark.parametrize("text", ["." * 20_000, "a. " * 7_000, "a, " * 7_000, "“" * 20_000])
def test_hostile_texts_take_no_time(text: str):
    committer = Committer("clause")
    parts: list[str] = []
    began_s = time.process_time()
    for index in range(0, len(text), 50):
        parts += committer.feed(text[index : index + 50])
    assert time.process_time() - began_s < 1.0
    assert "".join(parts + committer.finish()) == text
