"""Whether a recogniser hears a segment as it is written; see pipeline.hearing.divergence."""

from __future__ import annotations

import asyncio
import logging

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array, ReferenceClip, SpeechRequest
from pipeline.errors import InputError, TimbreError
from pipeline.hearing.divergence import is_divergent
from pipeline.text.front_end import plain_words
from pipeline.text.options import AS_USUAL, Reading
from pipeline.text.pauses import without_pauses
from pipeline.transcription import Transcriber

logger = logging.getLogger(__name__)

LONGEST_S = 5.0  # for the recogniser: the next segment waits meanwhile


class Listener:
    """Hears finished segments."""

    def __init__(self, hearing: Transcriber) -> None:
        self._hearing = hearing

    async def hears_otherwise(self, asked: SpeechRequest, samples: Float32Array) -> bool:
        """Whether so many words in a row are others that the answer is bad.

        samples: float32 (n,), 24 kHz. A recogniser that does not answer has nothing against it.
        """
        try:
            async with asyncio.timeout(LONGEST_S):
                heard = await self._hearing.transcribe(
                    ReferenceClip(samples, OUTPUT_SAMPLE_RATE_HZ, digest="")
                )
        except (TimbreError, TimeoutError) as error:
            logger.info("a segment was not listened to: %r", error)
            return False
        return await asyncio.to_thread(
            lambda: is_divergent(_in_words(asked.text, asked.reading), _in_words(heard))
        )


def _in_words(text: str, reading: Reading = AS_USUAL) -> str:
    """As it is said; as it is written where nothing can be said."""
    try:
        return without_pauses(plain_words(text, reading))
    except InputError:
        return text
