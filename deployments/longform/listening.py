"""Whether a recogniser hears a segment as it is written; see pipeline.hearing.divergence."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array, ReferenceClip
from pipeline.errors import TextError, TimbreError
from pipeline.hearing.divergence import is_divergent
from pipeline.text.front_end import plain_words

logger = logging.getLogger(__name__)


class Hearing(Protocol):
    """The recogniser, wherever it runs."""

    async def transcribe(self, clip: ReferenceClip) -> str:
        """See pipeline.transcription.Transcriber."""
        ...


class Listener:
    """Hears finished segments."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing

    async def hears_otherwise(self, text: str, samples: Float32Array) -> bool:
        """Whether so many words in a row are others that the answer is bad.

        samples: float32 (n,), 24 kHz. A recogniser that does not answer has nothing against it.
        """
        try:
            heard = await self._hearing.transcribe(
                ReferenceClip(samples, OUTPUT_SAMPLE_RATE_HZ, digest="")
            )
        except TimbreError as error:
            logger.info("a segment was not listened to: %s", error)
            return False
        return await asyncio.to_thread(lambda: is_divergent(_in_words(text), _in_words(heard)))


def _in_words(text: str) -> str:
    """As it is said; as it is written where nothing can be said."""
    try:
        return plain_words(text)
    except TextError:
        return text
