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


class RememberedRefusals:
    """A synthesizer that knows what was answered a moment ago. Use it from one event loop.

    repeated: told of every refusal that it made itself.
    """

    def __init__(self, synthesizer: Synthesizer, repeated: Callable[[Service, str], None]) -> None:
        self._synthesizer = synthesizer
        self._repeated = repeated
        self._told: dict[_Kind, tuple[float, CapacityError]] = {}

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """See Synthesizer. Raises CapacityError at once where a vocoder just did."""
        terms = request.terms
        self._raise_what_holds(terms)
        try:
            async with aclosing(self._synthesizer.speak(request, voice)) as speech:
                async for chunk in speech:
                    yield chunk
        except CapacityError as error:
            if error.holds_s > 0:
                self._told[_kind(terms)] = time.monotonic(), error
            raise

    def _raise_what_holds(self, terms: Terms) -> None:
        """The rest of a reply that is heard already is always asked for."""
        told = None if terms.is_begun else self._told.get(_kind(terms))
        if told is None:
            return
        told_s, error = told
        past_s = time.monotonic() - told_s
        if past_s >= error.holds_s:
            del self._told[_kind(terms)]
            return
        self._repeated(terms.service, "told")
        raise error.later(past_s)


def _kind(terms: Terms) -> _Kind:
    return terms.service, terms.tenant
