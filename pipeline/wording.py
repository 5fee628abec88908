"""What of a request will be said, in words: the first step of every prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.contracts import SpeechRequest
from pipeline.edit_values import SAME_WORDS
from pipeline.errors import TextError

# The fields of the HTTP API that faults are blamed on.
TEXT_PARAM, TRANSCRIPT_PARAM = "input", "prompt_text"


def in_words(request: SpeechRequest, words: Callable[[str], str]) -> SpeechRequest:
    """The request with the words that will be said; a text that nobody hears is left out.

    words: a text front end's first step. Raises TextError naming the field.
    """
    transcript = about(TRANSCRIPT_PARAM, words, request.transcript)
    is_heard = request.mode not in SAME_WORDS or not transcript
    text = about(TEXT_PARAM, words, request.text) if is_heard else ""
    return replace(request, text=text, transcript=transcript)


def about(param: str, step: Callable[[str], str], text: str) -> str:
    """A step of the front end; its errors name the caller's field. Nothing stays nothing."""
    if not text:
        return ""
    try:
        return step(text)
    except TextError as error:
        raise error.about(param) from error
