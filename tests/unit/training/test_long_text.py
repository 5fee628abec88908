"""Sentences found in what was heard: those that are missing or elsewhere are not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("httpx")
from training.judging.long_text import PRESENT, chapter, matched, recalls, sentences_of

pytestmark = pytest.mark.unit


def spelled(rng: np.random.Generator, count: int) -> list[list[str]]:
    return [list(rng.choice(list("abdefghijklmnoprstuvw"), 40)) for _ in range(count)]


def disturbed(rng: np.random.Generator, phonemes: list[str], share: float) -> list[str]:
    heard = list[str]()
    for one in phonemes:
        kind = rng.random()
        if kind < share / 3:
            continue
        heard.append("x" if kind < 2 * share / 3 else one)
        if kind > 1 - share / 3:
            heard.append("y")
    return heard


def test_missing_and_displaced_sentences_are_told_from_badly_heard_ones() -> None:
    rng = np.random.default_rng(0)
    said = spelled(rng, 30)
    spoken = [*said[:7], *said[8:20], *said[21:25], said[20], *said[25:]]
    heard = disturbed(rng, [one for sentence in spoken for one in sentence], 0.3)
    found = recalls(said, heard)
    assert [n for n, recall in enumerate(found) if recall < PRESENT] == [7, 20]


def test_alignment_of_equals_and_of_nothing() -> None:
    assert matched("abc", "abc").tolist() == [True] * 3
    assert matched("abc", "axbc").tolist() == [True] * 3
    assert matched("abc", "").tolist() == [False] * 3


def test_a_chapter_has_paragraphs_and_its_sentences() -> None:
    made = chapter(3_000)
    assert 2_800 < len(made) <= 3_000
    assert "\n\n" in made
    assert " ".join(sentences_of(made)) == " ".join(made.split())
