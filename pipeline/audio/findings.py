"""Warnings about a usable clip, each one word."""

from __future__ import annotations

import numpy as np

from pipeline.audio.levels import HIGH_BAND_HZ, Levels, to_decibels
from pipeline.contracts import Float32Array

QUIET = "quiet"
CLIPPED = "clipped"
NARROW_BAND = "narrow_band"
NOISY = "noisy"

_QUIET_LUFS = -40.0
_FULL_SCALE = 0.99
_CLIPPED_SHARE = 0.0005  # of samples; a recording brought to full scale by its peak has a few
_TOP_SHARE = 0.99  # of the peak: a clip cut at its top may have been made quieter afterwards
_SPEECH_LU = 20.0  # frames down to this below the loudness count as speech
_BAND_PERCENTILE = 95  # the sibilants
_EMPTY_BAND_DB = -40.0  # below the speech band; wide-band voices have -16 or more, calls under -55
_LEAST_BAND_HZ = 1_000.0
_NOISE_PERCENTILE = 5
_NOISE_LU = -12.0  # loudest allowed level of the quietest frames, below the loudness
_DIGITAL_SILENCE_LUFS = -95.0
_LEAST_FRAMES = 20


def find_faults(
    samples: Float32Array, sample_rate_hz: int, levels: Levels, *, spoken: Levels
) -> tuple[str, ...]:
    """Warnings in a fixed order; empty for a good clip.

    samples: float32 (n,), the clip as decoded. levels: of the whole clip without clicks. spoken: of
    its part without silence at the ends.
    """
    found = {
        QUIET: levels.loudness_lufs() < _QUIET_LUFS,
        CLIPPED: clipped_share(samples) > _CLIPPED_SHARE,
        NARROW_BAND: _is_narrow(spoken, sample_rate_hz),
        NOISY: _is_noisy(spoken),
    }
    return tuple(word for word, is_so in found.items() if is_so)


def clipped_share(samples: Float32Array) -> float:
    """Of samples float32 (n,), those at the top: full scale, or nearly the peak."""
    size = np.abs(samples)
    top = min(_FULL_SCALE, _TOP_SHARE * float(size.max()))
    return float(np.count_nonzero(size >= top) / len(size))


def _is_narrow(levels: Levels, sample_rate_hz: int) -> bool:
    if sample_rate_hz / 2 < HIGH_BAND_HZ[0] + _LEAST_BAND_HZ:
        return True
    is_speech = levels.frames_lufs > levels.loudness_lufs() - _SPEECH_LU
    speech_db = to_decibels(levels.speech_band[is_speech].mean()) if is_speech.any() else 0.0
    high_db = np.percentile(to_decibels(levels.high_band), _BAND_PERCENTILE)
    return bool(high_db - speech_db < _EMPTY_BAND_DB)


def _is_noisy(levels: Levels) -> bool:
    frames_lufs = levels.frames_lufs
    frames_lufs = frames_lufs[frames_lufs > _DIGITAL_SILENCE_LUFS]
    if len(frames_lufs) < _LEAST_FRAMES:
        return False
    quiet_lufs = np.percentile(frames_lufs, _NOISE_PERCENTILE)
    return bool(quiet_lufs - levels.loudness_lufs() > _NOISE_LU)
