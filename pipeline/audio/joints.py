"""Fades the edges of passages, so that they join without a click, and puts silence between them."""

from __future__ import annotations

import numpy as np

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array

# At the ends of an utterance the decoder's convolutions see padding: a crackle of 4 ms.
_CRACKLE_SAMPLES = OUTPUT_SAMPLE_RATE_HZ // 200
FADE_SAMPLES = 2 * _CRACKLE_SAMPLES


def faded(samples: Float32Array, *, at_start: bool, at_end: bool) -> Float32Array:
    """float32 (n,) → the same with the given edges silenced and faded."""
    n_faded = min(FADE_SAMPLES, len(samples))
    if not n_faded or not (at_start or at_end):
        return samples
    ramp = _RAMP[:n_faded]
    result = samples.copy()
    if at_start:
        result[:n_faded] *= ramp
    if at_end:
        result[-n_faded:] *= ramp[::-1]
    return result


def with_silence(samples: Float32Array, before_s: float, after_s: float) -> Float32Array:
    """float32 (n,) → the same with silence in front and behind."""
    n_before, n_after = (round(s * OUTPUT_SAMPLE_RATE_HZ) for s in (before_s, after_s))
    return np.pad(samples, (n_before, n_after)) if n_before or n_after else samples


def _ramp() -> Float32Array:
    rise = np.sin(np.linspace(0.0, np.pi / 2, FADE_SAMPLES - _CRACKLE_SAMPLES)) ** 2
    return np.concatenate((np.zeros(_CRACKLE_SAMPLES), rise)).astype(np.float32)


_RAMP = _ramp()
