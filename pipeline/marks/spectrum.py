# pyright: basic
"""Speech as the watermark's networks see it: levels of its lowest 2 kHz, in frames of 10 ms.

The networks were trained at 32 kHz with windows of 2,048 and steps of 320. The same windows and
bins are 1,536 and 240 at our 24 kHz: nothing is resampled, and what lies above 2 kHz stays as it
is, bit for bit.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array
from pipeline.marks.network import N_BINS

CPU = torch.device("cpu")
TRAINED_RATE_HZ = 32_000
HOP_SAMPLES = 320 * OUTPUT_SAMPLE_RATE_HZ // TRAINED_RATE_HZ
WINDOW_SAMPLES = 2_048 * OUTPUT_SAMPLE_RATE_HZ // TRAINED_RATE_HZ
HALF_SAMPLES = WINDOW_SAMPLES // 2
_AS_TRAINED = TRAINED_RATE_HZ / OUTPUT_SAMPLE_RATE_HZ  # a window of more samples has a larger sum
_LEAST = 1e-9  # magnitude; what is below counts as it
_LEAST_DB, _HEADROOM_DB = -180.0, 15.0
_RANGE_DB = _HEADROOM_DB - _LEAST_DB
_SILENT_LEVEL = 0.04  # mean of a frame's bins, some -172 dB: digital silence alone


def spectrum(samples: Float32Array, device: torch.device = CPU) -> Tensor:
    """(n,) → complex [K, T]: frames centred every HOP_SAMPLES, the first and last windows whole."""
    heard = torch.from_numpy(np.ascontiguousarray(samples)).to(device)
    frames = heard.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)
    return torch.fft.rfft(frames * _WINDOW.to(device), dim=1)[:, :N_BINS].T


def levels(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Complex [K, T] → levels [1, K, T], 0 for nothing and about 1 for full scale; mask [1, T]."""
    level_db = 20 * torch.log10((lines.abs() * _AS_TRAINED).clip(_LEAST))
    found = (level_db - _LEAST_DB) / _RANGE_DB
    return found[None], (found.mean(dim=0) > _SILENT_LEVEL).float()[None]


def difference(lines: Tensor, residual: Tensor) -> Tensor:
    """What a change of levels, [K, T], changes of complex [K, T]; phases stay."""
    return lines * (10 ** (residual * (_RANGE_DB / 20)) - 1)


def waveform(lines: Tensor) -> Float32Array:
    """Complex [K, T] → (n,): the inverse of `spectrum`, weighed by the windows that overlap."""
    n_frames = lines.shape[1]
    window = _WINDOW.to(lines.device)
    above = HALF_SAMPLES + 1 - N_BINS
    frames = torch.fft.irfft(F.pad(lines.T, (0, above)), WINDOW_SAMPLES, dim=1) * window
    squares = (window**2).expand(n_frames, -1)
    summed, weight = (_overlapped(one) for one in (frames, squares))
    return (summed / weight.clip(_LEAST_WEIGHT)).cpu().numpy()


def _overlapped(frames: Tensor) -> Tensor:
    """[T, window] → (n,), each frame HOP_SAMPLES behind the one before."""
    n_samples = WINDOW_SAMPLES + HOP_SAMPLES * (len(frames) - 1)
    columns = frames.T[None]
    size, window = (1, n_samples), (1, WINDOW_SAMPLES)
    return F.fold(columns, size, window, stride=(1, HOP_SAMPLES))[0, 0, 0]


_WINDOW = torch.hann_window(WINDOW_SAMPLES)
_LEAST_WEIGHT = 1e-3  # at the outermost samples, which windows hardly reach
