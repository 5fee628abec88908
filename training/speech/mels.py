# pyright: basic
"""Mels of training clips as the vocoder produces them, with level augmentation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.stepaudio.config import MelConfig
from pipeline.stepaudio.tokenizer.features import prompt_mel

SPEC = MelConfig()
GAIN_DB = (-14.0, 4.0)


def mel_of(samples: Tensor) -> Tensor:
    """24 kHz waveform (n,) → log-mel [T, M]."""
    return prompt_mel(samples, SPEC)


def to_float(samples: NDArray[np.int16]) -> Tensor:
    """int16 → float32 within ±1."""
    return torch.from_numpy(np.asarray(samples).astype(np.float32) / 32768)


def draw_gain(rng: np.random.Generator, wide: float = 0.5) -> float:
    """A level factor near one, or in a share `wide` of the draws anywhere in the range."""
    low, high = GAIN_DB
    decibels = rng.uniform(low, high) if rng.random() < wide else rng.normal(0, 2)
    return float(10 ** (min(decibels, high) / 20))
