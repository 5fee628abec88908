"""How outside judges count their errors."""

from __future__ import annotations

import pytest

from training.strangers import letters, words

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
