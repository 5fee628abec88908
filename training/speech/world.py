# pyright: basic
"""Pitch of speech, and speech moved in pitch and vocal tract, by WORLD and by resampling."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stepaudio.tokenizer.waveform import resample
from training.speech.clips import HOP_SAMPLES, RATE_HZ
from training.speech.speakers import TRACT_STEPS

F0_PERIOD_MS = 10.0  # every second value lies in the middle of a mel frame
F0_RANGE_HZ = (55.0, 600.0)


def moved(samples: NDArray[np.float32], tract: float, pitch: float) -> NDArray[np.float32]:
    """24 kHz speech with all frequencies times `tract`, and F0 times `pitch` on top.

    The first is played faster, without any loss; the second is made anew by WORLD.
    """
    if pitch != 1.0:
        samples = _pitched(samples, pitch)
    steps = round(tract * TRACT_STEPS)
    if steps == TRACT_STEPS:
        return samples
    played = resample(torch.from_numpy(samples), steps, TRACT_STEPS)
    return played.numpy().astype(np.float32)


def f0_of(audio24: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """F0 in Hz in the middle of each mel frame, 0 where unvoiced; audio at 24 kHz."""
    import pyworld  # pyright: ignore[reportMissingImports] of the training extra

    samples = audio24.astype(np.float64) / (32768 if audio24.dtype == np.int16 else 1)
    low, high = F0_RANGE_HZ
    raw, times = pyworld.dio(samples, RATE_HZ, low, high, frame_period=F0_PERIOD_MS)
    refined = pyworld.stonemask(samples, raw, times, RATE_HZ)
    n_frames = len(samples) // HOP_SAMPLES
    values = refined[1::2][:n_frames]
    return np.pad(values, (0, n_frames - len(values))).astype(np.float32)


def f0_of_rate(samples: NDArray[np.int16], rate_hz: int) -> float:
    """Median F0 in Hz of speech at any rate, 0 where no frame is voiced."""
    f0 = f0_of(resample(torch.from_numpy(samples / np.float32(32768)), rate_hz, RATE_HZ).numpy())
    return float(np.median(f0[f0 > 0])) if (f0 > 0).any() else 0.0


def _pitched(samples: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """As long as it was."""
    import pyworld  # pyright: ignore[reportMissingImports] of the training extra

    wide = samples.astype(np.float64)
    raw, times = pyworld.harvest(wide, RATE_HZ, *F0_RANGE_HZ)
    f0 = pyworld.stonemask(wide, raw, times, RATE_HZ)
    envelope = pyworld.cheaptrick(wide, f0, times, RATE_HZ)
    noise = pyworld.d4c(wide, f0, times, RATE_HZ)
    made = pyworld.synthesize(f0 * factor, envelope, noise, RATE_HZ)[: len(samples)]
    return np.pad(made, (0, len(samples) - len(made))).astype(np.float32)
