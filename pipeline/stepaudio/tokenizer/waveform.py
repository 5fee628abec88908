# pyright: basic
"""Waveform preprocessing: resampling, peak normalisation, silence trimming.

Waveforms are float32 tensors of shape (n_samples,) on the CPU; every function returns a new one.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

LOWPASS_WIDTH = 6  # zero crossings of the sinc kept on each side
ROLLOFF = 0.99  # cut-off as a share of the lower rate's Nyquist frequency
PHASES_PER_BLOCK = 640  # output phases per convolution; bounds memory for coprime rates

PROMPT_PEAK = 0.6  # louder clips are scaled down to this peak
TOKENIZER_PEAK = 0.999
TOKENIZER_QUIETEST_PEAK = 0.01  # clips below are not amplified further

TRIM_TOP_DB = 20.0  # frames this far below the loudest one are silence
TRIM_FRAME_SAMPLES = 512
TRIM_HOP_SAMPLES = 128
TRIM_LEVEL_FLOOR = 1e-10  # power
KEEP_LEFT_S = 0.05
KEEP_RIGHT_S = 0.22
TRIM_UNIT_SAMPLES = 240  # what remains between the kept margins is a multiple of this


def resample(
    waveform: Tensor, from_hz: int, to_hz: int, kernel_dtype: torch.dtype = torch.float32
) -> Tensor:
    """Windowed-sinc resampling, equal to torchaudio's default.

    (n,) → (ceil(n · to_hz / from_hz),), any integer rates.
    `kernel_dtype` is the precision in which filter taps are computed: torchaudio's
    `functional.resample` uses the waveform's float32, its `transforms.Resample` float64. Filters
    are float32 either way.
    """
    if from_hz == to_hz:
        return waveform
    divisor = math.gcd(from_hz, to_hz)
    source, target = from_hz // divisor, to_hz // divisor
    reach = math.ceil(LOWPASS_WIDTH * source / (min(source, target) * ROLLOFF))
    n_frames = len(waveform) // source + 1  # a frame: `source` samples in, `target` samples out
    padded = F.pad(waveform[None, None], (reach, reach + source))
    phases = []
    for first in range(0, target, PHASES_PER_BLOCK):
        last = min(first + PHASES_PER_BLOCK, target)
        start = first * source // target  # input samples that this block's phases look at
        stop = -(-last * source // target) + 2 * reach
        kernel = _sinc_kernel(
            source, target, (first, last), (start - reach, stop - reach), kernel_dtype
        )
        span = padded[..., start : stop + (n_frames - 1) * source]
        phases.append(F.conv1d(span, kernel, stride=source)[0])
    resampled = torch.cat(phases).T.reshape(-1)  # [target, n_frames] → [n_frames · target]
    # torchaudio rounds the length in float32; a longer clip could differ by a sample otherwise
    return resampled[: math.ceil(np.float32(target * len(waveform) / source))]


def _sinc_kernel(
    source: int, target: int, phases: tuple[int, int], taps: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """Filters of the output phases `phases` over input offsets `taps`, both half-open ranges.

    → [phases, 1, taps].
    """
    cutoff = min(source, target) * ROLLOFF
    offset_s = torch.arange(*taps, dtype=dtype)[None, None] / source
    phase_s = -torch.arange(*phases, dtype=torch.float32)[:, None, None] / target
    crossings = ((phase_s + offset_s) * cutoff).clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    window = torch.cos(crossings * math.pi / LOWPASS_WIDTH / 2) ** 2
    angle = crossings * math.pi
    sinc = torch.where(angle == 0, torch.ones_like(angle), angle.sin() / angle)
    return (sinc * (window * (cutoff / source))).to(torch.float32)


def limit_peak(waveform: Tensor) -> Tensor:
    """Scale a clip whose peak is above 0.6 down to 0.6; quieter ones stay as they are."""
    peak = waveform.abs().max()
    return waveform / peak * PROMPT_PEAK if peak > PROMPT_PEAK else waveform


def normalise_peak(waveform: Tensor) -> Tensor:
    """Scale to a peak of 0.999, as the tokenizer expects; a peak below 0.01 counts as 0.01."""
    return waveform / waveform.abs().max().clamp(min=TOKENIZER_QUIETEST_PEAK) * TOKENIZER_PEAK


def trim_silence(waveform: Tensor, sample_rate_hz: int) -> Tensor:
    """Cut silence at both ends, but 0.05 s left and 0.22 s right; zeros where the clip has less.

    The part between the margins is rounded up to whole units of 240 samples.
    """
    start, stop = _loud_span(waveform.numpy())
    n_units = math.ceil((stop - start) / TRIM_UNIT_SAMPLES)
    length = int(n_units * TRIM_UNIT_SAMPLES + (KEEP_LEFT_S + KEEP_RIGHT_S) * sample_rate_hz)
    first = start - int(KEEP_LEFT_S * sample_rate_hz)
    kept = F.pad(waveform[max(first, 0) :], (max(-first, 0), 0))[:length]
    return F.pad(kept, (0, length - len(kept)))


def _loud_span(samples: NDArray[np.float32]) -> tuple[int, int]:
    """Where frames within 20 dB of the loudest begin and end, as librosa's `effects.trim`."""
    margin = TRIM_FRAME_SAMPLES // 2
    padded = np.pad(samples, margin)
    windows = np.lib.stride_tricks.sliding_window_view(padded, TRIM_FRAME_SAMPLES)
    level = np.sqrt(np.mean(np.square(windows[::TRIM_HOP_SAMPLES]), axis=1))
    power = np.maximum(np.square(level), TRIM_LEVEL_FLOOR)
    is_loud = 10.0 * np.log10(power) - 10.0 * np.log10(power.max()) > -TRIM_TOP_DB
    loud = np.flatnonzero(is_loud)  # never empty: the loudest frame is loud
    start, stop = loud[0] * TRIM_HOP_SAMPLES, (loud[-1] + 1) * TRIM_HOP_SAMPLES
    return int(start), min(len(samples), int(stop))
