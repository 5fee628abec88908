"""One loudness for every segment of a long text."""

from __future__ import annotations

import numpy as np

from pipeline.audio.condition import SAFE_PEAK, limit_peaks
from pipeline.audio.levels import SILENT_LUFS, measure_levels
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array


def leveled(samples: Float32Array, target_lufs: float) -> Float32Array:
    """float32 (n,), 24 kHz → the same at an integrated loudness of `target_lufs` (ITU-R BS.1770).

    Peaks that would be above -1 dBFS are limited; silence is left as it is.
    """
    loudness_lufs = measure_levels(samples, OUTPUT_SAMPLE_RATE_HZ).loudness_lufs()
    if loudness_lufs <= SILENT_LUFS:
        return samples
    gain = np.float32(10 ** ((target_lufs - loudness_lufs) / 20))
    return limit_peaks(samples * gain, SAFE_PEAK)
