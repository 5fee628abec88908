"""A vocoder's refusal, repeated by the router as long as it holds, without asking.

Under overload most requests are refused: that must cost those who are served little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from pipeline.contracts import SpeechChunk, SpeechRequest, Stream, VoicePrompt
from pipeline.errors import CapacityError
from pipeline.serving.terms import Service, Terms
from pipeline.synthesis import Synthesizer

_Kind = tuple[Service, str]


class Told:
    """What was refused a moment ago, by service and tenant."""

    def __init__(self) -> None:
        self._told: dict[_Kind, tuple[float, CapacityError]] = {}

    def remember(self, terms: Terms, error: CapacityError, now_s: float) -> None:
        """It was refused now."""
        if error.holds_s > 0:
            self._told[_kind(terms)] = now_s, error

    def holding(self, terms: Terms, now_s: float) -> CapacityError | None:
        """What a vocoder would still answer; the rest of a reply that is heard is always asked."""
        told = None if terms.is_begun else self._told.get(_kind(terms))
        if told is None:
            return None
        told_s, error = told
        past_s = now_s - told_s
        if past_s >= error.holds_s:
            del self._told[_kind(terms)]
            return None
        return error.later(past_s)


class RememberedRefusals:
    """A synthesizer that knows what was answered a moment ago. Use it from one event loop.

    repeated: told of every refusal that it made itself.
    """

    def __init__(self, synthesizer: Synthesizer, repeated: Callable[[Service, str], None]) -> None:
        self._synthesizer = synthesizer
        self._repeated = repeated
        self._told = Told()

    def speak(self, request: SpeechRequest, voice: VoicePrompt) -> Stream[SpeechChunk]:
        """See Synthesizer. Raises CapacityError at once where a vocoder just did."""
        terms = request.terms
        error = self._told.holding(terms, time.monotonic())
        if error is not None:
            self._repeated(terms.service, "told")
            raise error
        return _Asked(self._synthesizer.speak(request, voice), partial(self._refused, terms))

    def _refused(self, terms: Terms, error: CapacityError) -> None:
        self._told.remember(terms, error, time.monotonic())


class _Asked(Stream[SpeechChunk]):
    """A vocoder's speech; `refused` hears that there is none."""

    def __init__(
        self, speech: Stream[SpeechChunk], refused: Callable[[CapacityError], None]
    ) -> None:
        self._speech = speech
        self._refused = refused

    async def __anext__(self) -> SpeechChunk:
        try:
            return await anext(self._speech)
        except CapacityError as error:
            self._refused(error)
            raise

    async def aclose(self) -> None:
        await self._speech.aclose()


def _kind(terms: Terms) -> _Kind:
    return terms.service, terms.tenant
