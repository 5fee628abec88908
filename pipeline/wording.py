"""What of a request will be said, in words: the first step of every prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pipeline.contracts import Mode, SpeechRequest
from pipeline.edit_values import SAME_WORDS
from pipeline.errors import InputError, UnsupportedError
from pipeline.text.front_end import Words
from pipeline.text.pauses import has_pauses, without_pauses

# The fields of the HTTP API that faults are blamed on.
TEXT_PARAM, TRANSCRIPT_PARAM = "input", "prompt_text"


def in_words(request: SpeechRequest, words: Words) -> SpeechRequest:
    """The request with the words that will be said; a text that nobody hears is left out.

    A clone's text keeps its pauses, a transcript says nothing of them.
    words: a text front end's first step. Raises InputError naming the field.
    """
    transcript = without_pauses(about(TRANSCRIPT_PARAM, words, request.transcript))
    is_heard = request.mode not in SAME_WORDS or not transcript
    reading = partial(words, reading=request.reading)
    text = about(TEXT_PARAM, reading, request.text) if is_heard else ""
    if request.mode is Mode.PARALINGUISTIC and has_pauses(text):
        raise UnsupportedError(
            "a pause is for speech alone: an edit keeps the pauses of its audio", param=TEXT_PARAM
        )
    if request.mode is not Mode.CLONE:
        text = without_pauses(text)
    return replace(request, text=text, transcript=transcript)


def about(param: str, step: Callable[[str], str], text: str) -> str:
    """A step of the front end; its errors name the caller's field. Nothing stays nothing."""
    if not text:
        return ""
    try:
        return step(text)
    except InputError as error:
        raise error.about(param) from error
