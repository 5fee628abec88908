"""Parts of one speech in a row: their edges are faded, so that they join without a click."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from deployments.speech.tape import on_grid
from pipeline.audio.joints import FADE_SAMPLES, faded
from pipeline.contracts import Float32Array, SpeechChunk, Stream

_NOTHING = np.empty(0, np.float32)


async def faded_ends(
    speech: Stream[SpeechChunk], *, at_start: bool, at_end: bool
) -> AsyncGenerator[SpeechChunk]:
    """`speech`, whose first and last samples join others. Closes it.

    As many samples as a fade has are held back until it is known whether they are the last.
    """
    held: Float32Array = _NOTHING
    async with aclosing(speech) as chunks:
        async for chunk in chunks:
            if not (at_start or at_end or len(held)):
                yield chunk
                continue
            samples = np.concatenate([held, chunk.samples])
            n_held = FADE_SAMPLES if at_end and not chunk.last else 0
            n_told = max(len(samples) - n_held, 0)
            if at_start and n_told < FADE_SAMPLES and not chunk.last:
                n_told = 0  # a fade is not cut in two
            told, held = samples[:n_told], samples[n_told:]
            if len(told):
                ends = at_end and chunk.last
                told, at_start = on_grid(faded(told, at_start=at_start, at_end=ends)), False
            yield replace(chunk, samples=told)
