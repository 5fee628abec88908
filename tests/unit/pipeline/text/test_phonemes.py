"""espeak's phonemes as the shipped checkpoint reads them."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError, TextError
from pipeline.text.espeak import EspeakVoice, PhoneEvent, default_espeak
from pipeline.text.front_end import front_end
from pipeline.text.phonemes import Phone, espeak_phonemes, phones_of, written

pytestmark = pytest.mark.unit


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
