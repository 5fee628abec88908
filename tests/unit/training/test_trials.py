"""What a set of trials says, and the tables that quote it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.judging.losses import Loss, losses_table
from training.judging.report import _human_row, _strangers_rows
from training.judging.strangers import Verdict
from training.judging.trials import CLONE, ORIGINAL, REFERENCE, Outcome, strangers_summary, summary

pytestmark = pytest.mark.unit

ENGLISH = Outcome(
    language="en",
    words=6,
    phones=20,
    errors=2,
    original_errors=1,
    seconds=2.0,
    original_seconds=2.0,
    took_s=1.0,
    to_reference=0.9,
    to_other=0.7,
    ceiling=0.9,
    floor=0.6,
    pitch_hz=200.0,
    reference_pitch_hz=200.0,
    mos=3.0,
    original_mos=3.2,
    strangers={
        CLONE: Verdict("one", 1, 5, 2, 20),
        ORIGINAL: Verdict("two", 0, 5, 1, 20),
        REFERENCE: Verdict("three", 1, 10, 3, 30),
    },
)
MANDARIN = replace(
    ENGLISH, language="zh", strangers={name: Verdict("", 1, 10) for name in ENGLISH.strangers}
)


def test_strangers_errors_are_counted_by_language() -> None:
    assert strangers_summary([ENGLISH, ENGLISH, MANDARIN]) == {
        "en_words_clone": 0.2,
        "en_words_original": 0,
        "en_words_reference": 0.1,
        "en_phonemes_clone": 0.1,
        "en_phonemes_original": 0.05,
        "en_phonemes_reference": 0.1,
        "zh_words_clone": 0.1,
        "zh_words_original": 0.1,
        "zh_words_reference": 0.1,
    }


def test_a_summary_holds_both_judges() -> None:
    figures = summary([ENGLISH, MANDARIN])
    assert figures["phone_error_short"] == 0.1
    assert figures["en_words_clone"] == 0.2
    assert figures["zh_words_clone"] == 0.1


def test_the_table_quotes_strangers_with_their_bars() -> None:
    words, characters, phonemes = _strangers_rows("held", summary([ENGLISH, MANDARIN]))
    assert words.endswith("0.200 | 0.000, references 0.100 | ≤ 0.1 | no |")
    assert characters.endswith("0.100 | 0.100, references 0.100 | ≤ 0.15 | yes |")
    assert phonemes.endswith("0.100 | 0.050, references 0.100 | ≤ 0.140 | yes |")


def test_a_real_clip_must_be_understood_in_both_languages() -> None:
    clip = {
        "clip": "a.wav",
        "word_error": {"en": 0.1, "zh": 0.3},
        "pitch_hz": 120.0,
        "clip_pitch_hz": 118.0,
        "middle_pitch_hz": 169.0,
    }
    assert _human_row(clip).endswith("| no |")
    assert _human_row({**clip, "word_error": {"en": 0.1, "zh": 0.2}}).endswith("| yes |")


def test_losses_stand_in_a_column_a_source() -> None:
    losses = [
        Loss("built-in", "original", 2, 0.1, 0.2, 3.0),
        Loss("people, Mandarin", "original", 1, 0.05, float("nan"), 3.5),
        Loss("built-in", "mel → HiFT", 2, 0.2, 0.25, 2.5),
        Loss("people, Mandarin", "mel → HiFT", 1, 0.1, float("nan"), 2.0),
    ]
    assert losses_table(losses).splitlines() == [
        "| words; phonemes; DNSMOS | built-in (2) | people, Mandarin (1) |",
        "|---|---|---|",
        "| original | 0.100; 0.200; 3.00 | 0.050; –; 3.50 |",
        "| mel → HiFT | 0.200; 0.250; 2.50 | 0.100; –; 2.00 |",
    ]
