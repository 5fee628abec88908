"""What was heard of an utterance, by the lengths of its sentences' audio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.http.sessions.playback import Playback, Spoken

pytestmark = pytest.mark.unit


def playback(*sentences: Spoken) -> Playback:
    return Playback(list(sentences))


def whole(text: str, audio_s: float) -> Spoken:
    return Spoken(text, audio_s=audio_s, is_whole=True)


@pytest.mark.parametrize(
    ("played_s", "heard"),
    [
        (0.0, ""),
        (0.5, "Hello"),
        (0.999, "Hello you."),
        (1.0, "Hello you."),
        (1.5, "Hello you.Again"),
        (2.0, "Hello you.Again now."),
        (60.0, "Hello you.Again now."),
    ],
)
def test_within_a_sentence_it_is_a_share_of_its_characters(played_s: float, heard: str):
    found = playback(whole("Hello you.", 1.0), whole("Again now.", 1.0)).heard(played_s, " More")
    assert found.heard_text == heard
    assert found.heard_text + found.unheard_text == "Hello you.Again now. More"
    assert found.played_ms == round(min(played_s, 2.0) * 1e3)
    assert sum(one.heard_ms for one in found.sentences) == found.played_ms


def test_of_a_sentence_that_was_not_finished_it_is_a_share_of_what_it_would_take():
    long = Spoken("a" * 100, audio_s=1.0)  # some 8 s
    assert len(playback(long).heard(1.0).heard_text) == 12
    fast = Spoken("a" * 100, speed=2.0, audio_s=1.0)
    assert len(playback(fast).heard(1.0).heard_text) == 25
    slower = Spoken("a" * 10, audio_s=4.0)
    assert len(playback(slower).heard(2.0).heard_text) == 5


def test_marks_stay_with_their_letters():
    text = "e\u0301" * 10
    assert playback(whole(text, 1.0)).heard(0.55).heard_text == "e\u0301" * 5


def test_a_sentence_that_failed_was_not_heard():
    failed = Spoken("Lost. ", audio_s=0.5, is_whole=True, failed=True)
    found = playback(whole("One. ", 1.0), failed, whole("Two.", 1.0)).heard(2.5)
    assert found.heard_text == "One. Two."
    assert found.unheard_text == "Lost. "
    assert found.sentences[1].heard_ms == 500


@given(
    st.lists(st.tuples(st.text(), st.floats(0, 30), st.booleans())),
    st.floats(0, 100),
    st.floats(0, 100),
)
def test_more_is_heard_later_and_no_character_is_lost(
    said: list[tuple[str, float, bool]], one_s: float, other_s: float
):
    account = playback(*(Spoken(text, 1.0, audio_s, done) for text, audio_s, done in said))
    early, late = (account.heard(at_s, "rest") for at_s in sorted((one_s, other_s)))
    assert len(early.heard_text) <= len(late.heard_text)
    for found in (early, late):
        length = len(found.heard_text) + len(found.unheard_text)
        assert length == sum(len(text) for text, _, _ in said) + len("rest")
