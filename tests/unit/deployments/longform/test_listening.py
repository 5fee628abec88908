"""What a listener makes of what a recogniser heard: in the request's own reading, and in time."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from deployments.longform import listening
from deployments.longform.listening import Listener
from pipeline.contracts import ReferenceClip, SpeechRequest
from pipeline.errors import StageUnavailableError
from pipeline.text.options import Pronunciation, Reading

pytestmark = pytest.mark.unit
SAMPLES = np.zeros(24_000, np.float32)
AS_WRITTEN = Reading(is_normalised=False)
SPOKEN_AS = Reading(
    pronunciations=(Pronunciation("WHO", "the World Health Organisation of the nations"),)
)


class Recogniser:
    """Hears the same words each time."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.was_cancelled = False
        self.hangs = False

    async def transcribe(self, clip: ReferenceClip) -> str:
        assert clip.samples is SAMPLES
        try:
            if self.hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return self.words


@pytest.mark.parametrize(
    ("text", "heard", "reading", "is_otherwise"),
    [
        ("It rained all day long.", "It rained all day long.", Reading(), False),
        ("It rained all day long.", "Nobody knows what happened here.", Reading(), True),
        (
            "We heard it from the WHO today.",
            "we heard it from the the world health organisation of the nations today",
            SPOKEN_AS,
            False,
        ),
        ("We heard it from the WHO today.", "we heard it from the who today", SPOKEN_AS, True),
        ("One. [pause:500ms] Two. [pause: 1.5s] Three.", "one two three", Reading(), False),
        (
            "It cost $1,234 in 1984.",
            "it cost one thousand two hundred thirty four dollars in nineteen eighty four",
            Reading(),
            False,
        ),
    ],
)
async def test_words_are_judged_as_the_request_has_them_said(
    text: str, heard: str, reading: Reading, is_otherwise: bool
) -> None:
    asked = SpeechRequest(text, "", reading=reading)
    listener = Listener(Recogniser(heard))
    assert await listener.hears_otherwise(asked, SAMPLES) is is_otherwise


async def test_what_cannot_be_read_is_judged_as_it_is_written() -> None:
    """Too long a pause was refused before; a text that only this step refuses is no fault."""
    text = "Wait [pause:99s] for it."
    listener = Listener(Recogniser(text))
    assert not await listener.hears_otherwise(SpeechRequest(text, ""), SAMPLES)


async def test_a_recogniser_that_hangs_is_given_up_and_told_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert listening.LONGEST_S == 5.0
    monkeypatch.setattr(listening, "LONGEST_S", 0.01)
    caplog.set_level("INFO", logger=listening.__name__)
    recogniser = Recogniser("something else altogether, which nobody wrote")
    recogniser.hangs = True
    asked = SpeechRequest("It rained all day long.", "")
    async with asyncio.timeout(2.0):
        assert not await Listener(recogniser).hears_otherwise(asked, SAMPLES)
    assert recogniser.was_cancelled
    assert "not listened to: TimeoutError" in caplog.text


async def test_a_recogniser_that_fails_has_nothing_against_an_answer() -> None:
    class Failing(Recogniser):
        async def transcribe(self, clip: ReferenceClip) -> str:
            raise StageUnavailableError("no recogniser answers")

    asked = SpeechRequest("It rained all day long.", "")
    assert not await Listener(Failing("")).hears_otherwise(asked, SAMPLES)
