"""How high a clip's speech is, window by window, and whether that sounds like several people.

Pitch by autocorrelation of what lies below 1 kHz.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts import Float32Array

LOWEST_HZ, HIGHEST_HZ = 65.0, 400.0
_FRAME_S = 0.05
_HOP_S = 0.02
_BAND_HZ = 1_000.0
_PADDING = 4  # bins between those of a frame, so that lags between samples are told apart
_STEPS_PER_OCTAVE = 48
_OCTAVE_SEMITONES = 12
_VOICED = 0.6  # of a frame's power that repeats with the pitch
_NEAR_LAGS = 8  # a peak's half width, in steps
_NEAR_BEST = 0.92  # a period's double repeats nearly as well as the period
_LOUD_SHARE = 0.05  # of the loudest frames' power; what lies below is breath and room
_WINDOW_S = 0.5
_FRAMES_AT_ONCE = 64  # their padded spectra take some 20 MB at the highest rate
_LEAST_VOICED = 6  # frames of a window
_LEAST_WINDOWS = 6
_LEAST_SHARE = 0.2  # of the windows, for the one who speaks less
_LEAST_GAP_SEMITONES = 5.5  # one lively speaker's windows were up to 5.4 apart
_LEAST_GAP_SPREADS = 3.4  # gap between two voices over what each varies by itself

Float64Array = NDArray[np.float64]


def window_pitches(samples: Float32Array, sample_rate_hz: int) -> Float64Array:
    """Semitones above 1 Hz, float64 (k,): the median of each window of 0.5 s that has a pitch.

    samples: float32 (n,).
    """
    hop, size = round(_HOP_S * sample_rate_hz), round(_FRAME_S * sample_rate_hz)
    if len(samples) < size:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    semitones, is_voiced = _frame_pitches(frames, sample_rate_hz)
    per_window = round(_WINDOW_S / _HOP_S)
    medians = [
        np.median(semitones[start : start + per_window][voiced])
        for start in range(0, len(semitones), per_window)
        if (voiced := is_voiced[start : start + per_window]).sum() >= _LEAST_VOICED
    ]
    return np.array(medians, np.float64)


def suspects_several(pitches: Float64Array) -> bool:
    """Whether windows fall in two heights that one speaker hardly reaches by turns.

    A suspicion: two people of one pitch pass, and so does whoever plays two parts.
    """
    if len(pitches) < _LEAST_WINDOWS:
        return False
    ordered = np.sort(pitches)
    least = max(2, round(_LEAST_SHARE * len(ordered)))
    cuts = range(least, len(ordered) - least + 1)
    return any(_is_gap(ordered[:cut], ordered[cut:]) for cut in cuts)


def _is_gap(low: Float64Array, high: Float64Array) -> bool:
    gap = float(np.median(high) - np.median(low))
    squares = low.var() * len(low) + high.var() * len(high)
    spread = float(np.sqrt(squares / (len(low) + len(high))))
    return gap >= _LEAST_GAP_SEMITONES and gap >= _LEAST_GAP_SPREADS * spread


def _frame_pitches(
    frames: Float32Array, sample_rate_hz: int
) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Semitones of every frame [frames, size], and whether it has a pitch at all."""
    size = frames.shape[1]
    window = np.hanning(size)
    n_bins = int(_BAND_HZ / sample_rate_hz * size * _PADDING)
    starts = range(0, len(frames), _FRAMES_AT_ONCE)
    power = np.concatenate(
        [_power(frames[start : start + _FRAMES_AT_ONCE] * window, n_bins) for start in starts]
    )
    n_lags = round(np.log2(HIGHEST_HZ / LOWEST_HZ) * _STEPS_PER_OCTAVE)
    lags_s = 1 / (HIGHEST_HZ * 2 ** (-np.arange(n_lags) / _STEPS_PER_OCTAVE))
    hz = np.arange(n_bins) * (sample_rate_hz / size / _PADDING)
    turns = np.cos(2 * np.pi * hz[:, np.newaxis] * lags_s)
    repeats = power @ turns / np.maximum(power.sum(axis=1, keepdims=True), 1e-12)
    own = _power(window[np.newaxis], n_bins)  # what the window alone takes away at a lag
    repeats /= np.maximum(own @ turns / own.sum(), 0.2)
    best = repeats.max(axis=1)
    first = (repeats >= _NEAR_BEST * best[:, np.newaxis]).argmax(axis=1)
    near = np.minimum(first[:, np.newaxis] + np.arange(_NEAR_LAGS), n_lags - 1)
    peak = first + np.take_along_axis(repeats, near, axis=1).argmax(axis=1)
    loud = power.sum(axis=1)
    is_loud = loud >= _LOUD_SHARE * np.percentile(loud, 95)
    return -_OCTAVE_SEMITONES * np.log2(lags_s[peak]), is_loud & (best >= _VOICED)


def _power(frames: NDArray[np.floating[Any]], n_bins: int) -> Float64Array:
    spectra = np.fft.rfft(frames, n=frames.shape[1] * _PADDING, axis=1)[:, :n_bins]
    return spectra.real**2 + spectra.imag**2
