"""Parts of one speech in a row: their edges are faded, so that they join without a click."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deployments.speech.tape import on_grid
from pipeline.audio.joints import FADE_SAMPLES, faded
from pipeline.contracts import Float32Array, SpeechChunk

_NOTHING = np.empty(0, np.float32)


class Ends:
    """Of one part, whose first and last samples join others.

    As many samples as a fade has are held back until it is known whether they are the last.
    """

    def __init__(self, *, at_start: bool, at_end: bool) -> None:
        self._at_start, self._at_end = at_start, at_end
        self._held: Float32Array = _NOTHING

    def faded(self, chunk: SpeechChunk) -> SpeechChunk:
        """The part's next chunk, as it is heard."""
        if not (self._at_start or self._at_end or len(self._held)):
            return chunk
        samples = np.concatenate([self._held, chunk.samples])
        n_held = FADE_SAMPLES if self._at_end and not chunk.last else 0
        n_told = max(len(samples) - n_held, 0)
        if self._at_start and n_told < FADE_SAMPLES and not chunk.last:
            n_told = 0  # a fade is not cut in two
        told, self._held = samples[:n_told], samples[n_told:]
        if len(told):
            is_end = self._at_end and chunk.last
            told = on_grid(faded(told, at_start=self._at_start, at_end=is_end))
            self._at_start = False
        return replace(chunk, samples=told)
