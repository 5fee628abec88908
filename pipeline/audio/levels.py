"""Levels of a clip: per short frame, per band, and integrated loudness.

Loudness follows ITU-R BS.1770-4 and EBU R128 for one channel: K-weighted, in blocks of 400 ms that
overlap by three quarters, gated. It is computed from the spectra of short frames, which also show
bands and pauses; FFmpeg's own meter takes five times as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts import Float32Array

FRAME_S = 0.02
SILENT_LUFS = -70.0  # the meter's absolute gate: quieter blocks do not count
SPEECH_BAND_HZ = (300.0, 3_400.0)
HIGH_BAND_HZ = (4_500.0, 8_000.0)  # of wide-band speech; a telephone carries none of it

_BLOCK_FRAMES = 20  # 400 ms
_HOP_FRAMES = 5
_RELATIVE_GATE_LU = 10.0
_LOUDNESS_OFFSET_LU = -0.691
_FRAMES_AT_ONCE = 64  # keeps a step's spectra in the processor's cache
_POWER_FLOOR = 1e-20
_HANN_POWER = 0.375  # that the window leaves of a stationary sound

Float64Array = NDArray[np.float64]
Spectra = NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Mean squares of a clip's frames of 20 ms, each float64 (n,), n at least 1."""

    weighted: Float64Array
    """K-weighted."""
    speech_band: Float64Array
    """Within SPEECH_BAND_HZ."""
    high_band: Float64Array
    """Within HIGH_BAND_HZ."""

    @property
    def frames_lufs(self) -> Float64Array:
        """Loudness of every frame."""
        return _loudness(self.weighted)

    def loudness_lufs(self) -> float:
        """Integrated loudness; SILENT_LUFS when nothing is above it."""
        blocks = _blocks(self.weighted)
        blocks = blocks[_loudness(blocks) > SILENT_LUFS]
        if not len(blocks):
            return SILENT_LUFS
        gate_lufs = _loudness(blocks.mean()) - _RELATIVE_GATE_LU
        return float(_loudness(blocks[_loudness(blocks) > gate_lufs].mean()))


def measure_levels(samples: Float32Array, sample_rate_hz: int) -> Levels:
    """samples: float32 (n,). An incomplete last frame is omitted."""
    size = max(2, round(FRAME_S * sample_rate_hz))
    n_frames = max(1, len(samples) // size)
    frames = np.zeros((n_frames, size), np.float32)
    whole = samples[: frames.size]
    frames.reshape(-1)[: len(whole)] = whole
    hz = np.arange(size // 2 + 1, dtype=np.float64) * (sample_rate_hz / size)
    weights = _bin_weights(hz, size, sample_rate_hz)
    high = slice(*np.searchsorted(hz, HIGH_BAND_HZ))
    powers = np.empty((3, n_frames))
    for start in range(0, n_frames, _FRAMES_AT_ONCE):
        stop = start + _FRAMES_AT_ONCE
        spectra = np.fft.rfft(frames[start:stop], axis=1)
        powers[:2, start:stop] = (_squared(spectra) @ weights).T
        powers[2, start:stop] = _squared(_hann(spectra[:, high])).sum(axis=1)
    weighted, speech_band, high_band = powers
    return Levels(weighted, speech_band, high_band * (2 / size**2 / _HANN_POWER))


def to_decibels(power: Float64Array | float) -> Float64Array:
    """Loudness of a mean square, with a floor for digital silence."""
    return 10.0 * np.log10(np.maximum(power, _POWER_FLOOR))


def _loudness(power: Float64Array | float) -> Float64Array:
    return _LOUDNESS_OFFSET_LU + to_decibels(power)


def _blocks(weighted: Float64Array) -> Float64Array:
    """Mean squares of the meter's blocks; a clip shorter than one is a block."""
    if len(weighted) < _BLOCK_FRAMES:
        return weighted.mean(keepdims=True)
    sums = np.concatenate([[0.0], np.cumsum(weighted)])
    return (sums[_BLOCK_FRAMES:] - sums[:-_BLOCK_FRAMES])[::_HOP_FRAMES] / _BLOCK_FRAMES


def _bin_weights(hz: Float64Array, size: int, sample_rate_hz: int) -> Float32Array:
    """Weights of each bin in `weighted` and `speech_band`: float32 [bins, 2]."""
    both_sides = np.full(len(hz), 2 / size**2)
    both_sides[0] /= 2
    if size % 2 == 0:
        both_sides[-1] /= 2
    low, high = SPEECH_BAND_HZ
    bands = [_k_weighting(hz, sample_rate_hz), (low <= hz) & (hz < high)]
    return (np.stack(bands, axis=1) * both_sides[:, np.newaxis]).astype(np.float32)


def _squared(spectra: Spectra) -> NDArray[np.floating[Any]]:
    return spectra.real**2 + spectra.imag**2


def _hann(spectra: Spectra) -> Spectra:
    """Spectra with a Hann window, applied by convolution; the outer bins are not exact.

    Without it the voice's power leaks into an empty band.
    """
    return spectra[:, 1:-1] / 2 - (spectra[:, :-2] + spectra[:, 2:]) / 4


def _k_weighting(hz: Float64Array, sample_rate_hz: int) -> Float64Array:
    """The two filters of BS.1770 at any rate, squared: a shelf for the head, then a high-pass."""
    warped = math.tan(math.pi * 1681.974450955533 / sample_rate_hz)
    quality = 0.7071752369554196
    gain = 10 ** (3.999843853973347 / 20)
    middle = gain**0.4996667741545416
    shelf = _response(
        (gain + middle * warped / quality + warped**2, 2 * (warped**2 - gain),
         gain - middle * warped / quality + warped**2),
        (1 + warped / quality + warped**2, 2 * (warped**2 - 1), 1 - warped / quality + warped**2),
        hz / sample_rate_hz,
    )  # fmt: skip
    warped = math.tan(math.pi * 38.13547087602444 / sample_rate_hz)
    quality = 0.5003270373238773
    whole = 1 + warped / quality + warped**2
    high_pass = _response(
        (whole, -2 * whole, whole),  # the standard's own gain
        (whole, 2 * (warped**2 - 1), 1 - warped / quality + warped**2),
        hz / sample_rate_hz,
    )
    return shelf * high_pass


def _response(
    numerator: tuple[float, float, float],
    denominator: tuple[float, float, float],
    cycles_per_sample: Float64Array,
) -> Float64Array:
    """Squared magnitude of a second-order filter."""
    delay = np.exp(-2j * np.pi * cycles_per_sample)
    return np.square(
        np.abs(np.polyval(numerator[::-1], delay) / np.polyval(denominator[::-1], delay))
    )
