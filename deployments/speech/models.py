"""Which models speak now, by content: their names are part of every key of speech.

Whoever builds the library hands it a way to ask.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Protocol

from cache_store.keys import digest, fingerprint
from cache_store.memory import MemoryTier
from pipeline.contracts import SpeechRequest, VocoderName
from pipeline.errors import InputError, TimbreError
from pipeline.text.front_end import Words, front_end
from pipeline.wording import in_words

logger = logging.getLogger(__name__)

POLL_S = 10.0  # how long a replaced model may go unnoticed; its answers are never kept as another's
_WORDINGS_BYTES = 4 * 2**20


class Namer(Protocol):
    """Asks the stages what they are."""

    async def vocoder(self) -> VocoderName:
        """Raises TimbreError when none answers."""
        ...

    async def lm(self, variant: str) -> str:
        """The fingerprint of a variant's LLM. Raises TimbreError when none answers."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SpeechModels:
    """An LLM and a vocoder. fingerprint: of both. made_by: of each. words: how text is read."""

    fingerprint: str
    made_by: frozenset[str]
    words: Words


class ModelBook:
    """The models of every variant, as far as they were told. Use it from one event loop."""

    def __init__(self, namer: Namer) -> None:
        self._namer = namer
        self._models: dict[str, SpeechModels] = {}
        self._wordings = MemoryTier[tuple[str, str]](_WORDINGS_BYTES)
        self._is_silent = False

    async def of(self, variant: str) -> SpeechModels | None:
        """Of a variant; None while a stage does not say what it is."""
        if variant not in self._models and not self._is_silent:
            await self._ask(variant)
        return self._models.get(variant)

    async def worded(self, request: SpeechRequest, models: SpeechModels) -> SpeechRequest | None:
        """The request in words, as the text front end leaves them.

        None for a text that cannot be spoken: the stages say why.
        """
        how = repr(request.reading)
        parts = (models.fingerprint, request.mode, request.text, request.transcript, how)
        try:
            name = digest("wording", *(part.encode() for part in parts))
        except UnicodeEncodeError:  # half a character
            return None
        known = self._wordings.get(name)
        if known is not None:
            return replace(request, text=known[0], transcript=known[1])
        try:
            worded = await asyncio.to_thread(in_words, request, models.words)
        except InputError:
            return None
        wording = worded.text, worded.transcript
        self._wordings.put(name, wording, 500 + 4 * sum(map(len, wording)))
        return worded

    def doubt(self) -> None:
        """Another model was at work than was told: ask again before the next request."""
        self._models.clear()

    async def follow(self) -> None:
        """Notice replaced models until cancelled."""
        while True:
            for variant in list(self._models):
                await self._ask(variant)
            self._is_silent = False
            await asyncio.sleep(POLL_S)

    async def _ask(self, variant: str) -> None:
        try:
            vocoder, lm = await asyncio.gather(self._namer.vocoder(), self._namer.lm(variant))
            words = (await asyncio.to_thread(front_end, vocoder.front_end)).words
        except TimbreError as error:
            logger.info("speech is not reused while a stage does not say what it is: %s", error)
            self._is_silent = True
            return
        print_ = fingerprint("models", {"vocoder": vocoder.fingerprint, "lm": lm})
        self._models[variant] = SpeechModels(print_, frozenset({vocoder.fingerprint, lm}), words)
