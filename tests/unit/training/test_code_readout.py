"""Phones and tones read from codes."""

from __future__ import annotations

import pytest

from training.judging.code_readout import collapsed, mark_ids
from training.speech.alignment import MARK_ID

pytestmark = pytest.mark.unit


def test_runs_are_one_and_silence_is_none() -> None:
    assert collapsed([0, 3, 3, 0, 3, 5, 5, 0]) == [3, 3, 5]


def test_marks_of_a_syllable_count_once() -> None:
    assert mark_ids("ʨjau↘ tˈɑm.") == [MARK_ID["↘"], MARK_ID["ˈ"]]
    assert mark_ids("ni↓xau↓") == [MARK_ID["↓"], MARK_ID["↓"]]
