"""Texts in parts: tags stay where they are, and no word is lost."""

from __future__ import annotations

import pytest

from pipeline.errors import TextError
from pipeline.splitting.texts import split_as, tagged_passages

pytestmark = pytest.mark.unit
WORDS = ["So you forgot.", "Never mind, it happens!"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("So you forgot. Never mind, it happens!", WORDS),
        ("so you [Sigh] forgot.  Never mind, it happens! [Laughter]",
         ["so you [Sigh] forgot.", "Never mind, it happens! [Laughter]"]),
        ("So you forgot [Uhm]. [Sigh] Never mind, it happens!",
         ["So you forgot [Uhm]. [Sigh]", "Never mind, it happens!"]),
        ('So you forgot… "Never mind, it happens!"',
         ["So you forgot…", '"Never mind, it happens!"']),
        ("[Breathing] So you forgot.[Sigh][Sigh] Never [Laughter]mind, it happens!",
         ["[Breathing] So you forgot.[Sigh][Sigh]", "Never [Laughter]mind, it happens!"]),
    ],
)  # fmt: skip
def test_a_marked_text_is_cut_where_the_words_are(text: str, parts: list[str]) -> None:
    assert split_as(text, WORDS) == parts


def test_marks_of_an_earlier_step_count_no_more_than_new_ones() -> None:
    words = ["So you forgot [Sigh].", "Never mind."]
    text = "So you forgot [Sigh]. Never [Laughter] mind."
    assert split_as(text, words) == ["So you forgot [Sigh].", "Never [Laughter] mind."]


def test_chinese_has_no_spaces() -> None:
    words = ["我总觉得,有人在跟着我。", "我能听到奇怪的脚步声。"]
    text = "我总觉得,有人[Uhm]在跟着我。我能听到[Sigh]奇怪的脚步声。"
    assert split_as(text, words) == [
        "我总觉得,有人[Uhm]在跟着我。", "我能听到[Sigh]奇怪的脚步声。",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["So you forgot. Never mind.", "So you forgot it. " + WORDS[1]])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(TextError, match="2 parts"):
        split_as(text, WORDS)


def test_a_single_part_may_have_any_words() -> None:
    assert split_as("Something else [Sigh].", WORDS[:1]) == ["Something else [Sigh]."]


def test_dialect_tags_lead_every_passage() -> None:
    parts = tagged_passages("[Cantonese] One two. Three four.", len, 12)
    assert parts == ["[Cantonese] One two.", "[Cantonese] Three four."]
