"""Runs of words that differ: what a lost sentence is, and a recogniser's slip is not."""

from __future__ import annotations

import pytest

from pipeline.hearing.divergence import is_divergent, longest_divergence, words_of

pytestmark = pytest.mark.unit

SAID = "The keeper climbed the narrow stair and lit the lamp before the storm came in from the sea."


@pytest.mark.parametrize(
    ("heard", "run"),
    [
        (SAID, 0),
        (SAID.upper().replace(".", "!"), 0),
        (SAID.replace("keeper", "keepers"), 1),
        (SAID.replace("the narrow stair", "a narrow stare"), 3),  # one chance word between
        (SAID.replace("keeper", "keepers").replace("sea", "see"), 1),
        (SAID.replace(" and lit the lamp before the storm", ""), 7),
        (SAID.replace("lamp", "lamp lamp lamp lamp lamp lamp"), 5),
        ("", 18),
        ("Completely different words were heard here by somebody else", 18),
    ],
)
def test_the_longest_run(heard: str, run: int) -> None:
    assert longest_divergence(words_of(SAID), words_of(heard)) == run
    assert longest_divergence(words_of(heard), words_of(SAID)) == run
    assert is_divergent(SAID, heard) == (run >= 4)


def test_many_small_slips_are_no_run() -> None:
    said = " ".join(f"w{n}" for n in range(60))
    heard = " ".join("slip" if n % 4 == 0 else f"w{n}" for n in range(60))
    assert longest_divergence(words_of(said), words_of(heard)) == 1


def test_words_of_scripts_without_spaces_are_their_characters() -> None:
    assert words_of("他走上楼梯。OK，don’t！") == ["他", "走", "上", "楼", "梯", "ok", "don't"]
    assert longest_divergence(words_of("他走上了狭窄的楼梯"), words_of("他走楼梯")) == 5
    assert words_of("…—!") == []
