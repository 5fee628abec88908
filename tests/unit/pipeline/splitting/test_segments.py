"""Segments of a long text: whole sentences, none lost, early first audio, pauses at paragraphs."""

from __future__ import annotations

import pytest

from pipeline.splitting.segments import (
    FIRST_UNITS,
    MOST_UNITS,
    PARAGRAPH_PAUSE_S,
    SENTENCE_PAUSE_S,
    segments,
)
from pipeline.splitting.weights import weight_of

pytestmark = pytest.mark.unit

SENTENCE = "The keeper climbed the narrow stair and lit the lamp before the storm came in. "
CHAPTER = "\n\n".join((SENTENCE * 9).strip() for _ in range(6))

MR = "Mr. " * 300
TEXTS = {
    "titles": MR + "Smith came.",
    "dots": ". " * 900 + "So." + "…" * 2_000,
    "dashes": "—" * 3_000 + "Well",
    "chapter": CHAPTER,
    "one word": "Hello",
    "no end": "word " * 600,
    "no space": "a" * 2_000,
    "chinese": "他走上狭窄的楼梯，点亮了灯。" * 80,
    "lines": "One.\nTwo.\n\n\nThree.  \n \n Four, and no more",
    "windows lines": "One.\r\n\r\nTwo.\r\n\r\nThree.",
    "repeated": "No. No. No.\n\nNo. No.",
    "tags": "[Laughter] Ha! [Sigh] Well. " * 40,
    "spaces": "  \n\n  Hello there.   General.  \n\n ",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_every_character_lies_in_exactly_one_segment(text: str) -> None:
    parts = segments(text)
    spans = [(part.start, part.end) for part in parts]
    assert spans == sorted(spans)
    assert [text[part.start : part.end] for part in parts] == [part.text for part in parts]
    covered = "".join(part.text for part in parts)
    assert "".join(covered.split()) == "".join(text.split())
    assert all(part.text == part.text.strip() for part in parts)
    assert all(weight_of(part.text) <= MOST_UNITS for part in parts)


def test_the_first_segment_is_short_and_later_ones_are_longer() -> None:
    first, *later = segments(CHAPTER)
    assert first.text == SENTENCE.strip()
    assert weight_of(first.text) <= FIRST_UNITS
    assert max(weight_of(part.text) for part in later) > 1.5 * FIRST_UNITS


def test_segments_end_with_sentences_and_pause_longer_behind_paragraphs() -> None:
    parts = segments(CHAPTER)
    assert all(part.text.endswith(".") for part in parts)
    pauses = [part.pause_s for part in parts]
    assert pauses.count(PARAGRAPH_PAUSE_S) == 5
    assert pauses[-1] == 0
    assert set(pauses[:-1]) == {SENTENCE_PAUSE_S, PARAGRAPH_PAUSE_S}


def test_within_a_sentence_there_is_no_pause() -> None:
    assert {part.pause_s for part in segments("word " * 600)} == {0.0}


def test_dialect_tags_in_front_of_the_text_stand_in_front_of_each_segment() -> None:
    text = "[Sichuanese] " + SENTENCE * 9
    parts = segments(text)
    assert len(parts) > 1
    assert all(part.text.startswith("[Sichuanese] The keeper") for part in parts)
    assert [text[part.start : part.end] for part in parts] == [
        part.text.removeprefix("[Sichuanese] ") for part in parts
    ]


def test_white_space_has_no_segments() -> None:
    assert segments(" \n\n ") == ()
