"""Sentences, voices and the text tokenizer of the recipe."""

from __future__ import annotations

import itertools
import re

import pytest
import sentencepiece

from pipeline.errors import ConfigError
from pipeline.stepaudio.llm import prompt
from pipeline.text.sounds.symbols import BORDER, SYMBOLS
from training.models.text_tokenizer import SPACE, tokenizer_model
from training.speech.speakers import ENGLISH, MANDARIN
from training.speech.text import TextSources, length_of, sentences

pytestmark = pytest.mark.unit

SOURCES = {
    ENGLISH: TextSources(
        ("In the beginning God created the heaven and the earth.",), ("apple", "river", "stone")
    ),
    MANDARIN: TextSources((), ("苹果", "河", "石头")),
}
IDEOGRAPH = re.compile("[\u4e00-\u9fff]")


@pytest.mark.parametrize("language", [ENGLISH, MANDARIN])
def test_sentences_are_short_varied_and_repeatable(language: str) -> None:
    own = SOURCES[language]
    first, again = (list(itertools.islice(sentences(own, language, 7), 400)) for _ in range(2))
    assert first == again
    assert first != list(itertools.islice(sentences(own, language, 8), 400))
    assert 0 < min(map(length_of, first)) <= 0.05
    assert 0.55 < max(map(length_of, first)) <= 1
    assert len(set(first)) > 250
    assert {sentence[-1] for sentence in first} >= set(
        {ENGLISH: ".?!", MANDARIN: "。？！"}[language]
    )
    with_ideographs = sum(bool(IDEOGRAPH.search(sentence)) for sentence in first) / len(first)
    assert with_ideographs > 0.95 if language == MANDARIN else 0 < with_ideographs < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("language", [ENGLISH, MANDARIN])
def test_some_sentences_have_numbers_and_some_both_scripts(language: str) -> None:
    drawn = list(itertools.islice(sentences(SOURCES[language], language, 3), 400))
    assert sum(any(c.isdecimal() for c in text) for text in drawn) > 15
    both = [t for t in drawn if IDEOGRAPH.search(t) and re.search("[A-Za-z]{2}", t)]
    assert 5 < len(both) < 60


def test_a_missing_word_list_is_named() -> None:
    with pytest.raises(ConfigError, match="no/such/list"):
        TextSources.read("no/such/list", "")


def test_every_sound_is_one_piece_and_so_is_every_fixed_phrase() -> None:
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model())
    newline = pieces.encode("\n")
    for symbol in SYMBOLS:
        encoded = pieces.encode("\n" + symbol)
        assert len(encoded) == len(newline) + 1
        assert encoded[-1] == pieces.piece_to_id(symbol.replace(BORDER, SPACE))
    text = "system\n" + prompt._CLONE_SYSTEM.format(
        speaker="clone_0123456789abcdef", transcript="həlˈO", audio="<audio_0><audio_5119>"
    )
    assert len(pieces.encode(text)) == 1 + 16 + 1 + 5 + 1 + 2 + 1
    assert pieces.decode(pieces.encode(text)) == text
