"""Speech on its way between processes: as 16-bit steps, which every listener hears in the end.

Half the bytes, and chunks of up to two seconds are small enough for Ray to send them with the
message that tells of them; larger ones wait for its object store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, SupportsIndex

import numpy as np

from pipeline.audio.encode import PCM16_SCALE, to_pcm16
from pipeline.contracts import SpeechChunk


class SentInSteps(np.ndarray):
    """float32 (n,) that is pickled as int16 (n,).

    It arrives as a plain float32 array on 16-bit steps, also where this class is not known: during
    an update, old and new replicas speak with each other.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return np.divide, (to_pcm16(np.asarray(self)), PCM16_SCALE)


def sent_in_steps(chunk: SpeechChunk) -> SpeechChunk:
    """The chunk, ready to be sent; see SentInSteps."""
    return replace(chunk, samples=chunk.samples.view(SentInSteps))
