"""How outside judges count their errors."""

from __future__ import annotations

import pytest

from training.judging.strangers import Verdict, characters, letters, words

pytestmark = pytest.mark.unit


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert words("Hello there, it’s well-kept: 'fine'!") == [
        "hello",
        "there",
        "it's",
        "well",
        "kept",
        "'fine'",
    ]


def test_phonemes_are_compared_without_stress_length_and_ties() -> None:
    assert letters("həˈloʊ, t͡ʃiː") == ["h", "ə", "l", "o", "ʊ", "t", "ʃ", "i"]


def test_mandarin_is_compared_by_simplified_characters() -> None:
    assert characters("我們有3個。") == characters("我们有三个") == list("我们有三个")
    assert characters("他叫 Tom Smith！") == ["他", "叫", "tom", "smith"]


def test_numbers_count_as_words() -> None:
    assert words("It cost $5.") == ["it", "cost", "five", "dollars"]


def test_errors_are_shares_of_what_was_said() -> None:
    verdict = Verdict("hello", 1, 4)
    assert verdict.word_error == 0.25
    assert verdict.phoneme_error == 0
