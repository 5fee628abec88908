"""Passages of speech one behind the other without a click: their edges are faded."""

from __future__ import annotations

import numpy as np

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array

FADE_SAMPLES = OUTPUT_SAMPLE_RATE_HZ // 200  # 5 ms: a decoder's first and last samples may jump


def faded(samples: Float32Array, *, at_start: bool, at_end: bool) -> Float32Array:
    """float32 (n,) → the same with the named edges faded; untouched where none is."""
    n_faded = min(FADE_SAMPLES, len(samples))
    if not n_faded or not (at_start or at_end):
        return samples
    ramp = np.sin(np.linspace(0.0, np.pi / 2, n_faded, dtype=np.float32)) ** 2
    result = samples.copy()
    if at_start:
        result[:n_faded] *= ramp
    if at_end:
        result[-n_faded:] *= ramp[::-1]
    return result
