"""Sentences, voices and the text tokenizer of the recipe."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sentencepiece

from pipeline.errors import ConfigError, TextError
from pipeline.stepaudio.llm import prompt
from pipeline.text.espeak import EspeakVoice, PhoneEvent, default_espeak
from pipeline.text.front_end import front_end
from pipeline.text.phonemes import PHONES, Phone, espeak_phonemes, phones_of, written
from training.models.text_tokenizer import tokenizer_model
from training.speech.text import MAX_WORDS, TextSources, sentences
from training.speech.voices import PITCH_HZ, draw_speakers

pytestmark = pytest.mark.unit

SOURCES = TextSources(
    ("In the beginning God created the heaven and the earth.",), ("apple", "river", "stone")
)


def test_sentences_are_short_varied_and_repeatable() -> None:
    first, again = (list(itertools.islice(sentences(SOURCES, 7), 400)) for _ in range(2))
    assert first == again
    assert first != list(itertools.islice(sentences(SOURCES, 8), 400))
    lengths = [len(sentence.split()) for sentence in first]
    assert min(lengths) == 1
    assert 12 <= max(lengths) <= MAX_WORDS
    assert len(set(first)) > 250
    assert {sentence[-1] for sentence in first} == set(".?!")


def test_a_missing_word_list_is_named() -> None:
    with pytest.raises(ConfigError, match="no/such/list"):
        TextSources.read("no/such/list", "")


def test_speakers_cover_pitch_rate_and_range_evenly() -> None:
    speakers = draw_speakers(40, 3, "t")
    for name, low, high in (("pitch", 20, 80), ("range", 15, 85), ("rate", 135, 195)):
        values = sorted(getattr(speaker.settings, name) for speaker in speakers)
        edges = np.linspace(low, high, 41)
        assert all(a - 1 <= v <= b + 1 for v, a, b in zip(values, edges, edges[1:], strict=False))
    bases = sorted(float(s.variant.split("pitch ")[1].split()[0]) for s in speakers)
    assert bases[0] < PITCH_HZ[0] * 1.05
    assert bases[-1] > PITCH_HZ[1] * 0.95
    assert len({speaker.variant for speaker in speakers}) == 40


def test_every_phoneme_is_one_piece_and_so_is_every_fixed_phrase() -> None:
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model())
    newline = pieces.encode("\n")
    for phone in PHONES:
        encoded = pieces.encode("\n" + phone)
        assert len(encoded) == len(newline) + 1
        assert encoded[-1] == pieces.piece_to_id(phone)
    text = "system\n" + prompt._CLONE_SYSTEM.format(
        speaker="clone_0123456789abcdef", transcript="həloʊ", audio="<audio_0><audio_5119>"
    )
    assert len(pieces.encode(text)) == 1 + 16 + 1 + 4 + 1 + 2 + 1
    assert pieces.decode(pieces.encode(text)) == text


def test_front_end_of_the_checkpoint() -> None:
    english = front_end("espeak-phonemes")

    def say(text: str) -> str:
        return english.prompt(english.words(text))

    assert say("Hello there, how are you?") == "həloʊ ðɛ˞,haʊ ɑ˞ ju"
    assert say("  hello\u200b ") == espeak_phonemes("hello")
    assert say("你好，今天天气很好。") == "nihaʊ,ʤin tjɛn tjɛn ʧi hənhaʊ"
    with pytest.raises(TextError):
        say("...")


def test_written_phonemes_leave_out_borders_at_pauses_and_ends() -> None:
    events = [
        PhoneEvent("", 0),
        PhoneEvent("h", 1),
        PhoneEvent("'aI", 2),
        PhoneEvent("", 3),
        PhoneEvent("_:", 4),
        PhoneEvent("_", 5),
        PhoneEvent("", 6),
        PhoneEvent("t#", 7),
        PhoneEvent("_:", 8),
    ]
    phones = phones_of(events)
    assert written(phones) == "haɪ,t"
    assert phones[1] == Phone("h", 1)


def test_espeak_refuses_a_voice_it_does_not_have() -> None:
    with pytest.raises(ConfigError, match="no-such-voice"):
        default_espeak().speak("hello", EspeakVoice("no-such-voice"))
