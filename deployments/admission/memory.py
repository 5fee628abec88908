"""A vocoder's refusal, repeated by the router as long as it holds, without asking.

Under overload most requests are refused: that must cost those who are served little.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from pipeline.contracts import SpeechChunk, SpeechRequest, VoicePrompt
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

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """See Synthesizer. Raises CapacityError at once where a vocoder just did."""
        terms = request.terms
        error = self._told.holding(terms, time.monotonic())
        if error is not None:
            self._repeated(terms.service, "told")
            raise error
        try:
            async with aclosing(self._synthesizer.speak(request, voice)) as speech:
                async for chunk in speech:
                    yield chunk
        except CapacityError as error:
            self._told.remember(terms, error, time.monotonic())
            raise


def _kind(terms: Terms) -> _Kind:
    return terms.service, terms.tenant
