"""The package resemble-perth as it is, on stand-ins for what it imports and does not need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly
from torch import Tensor


class Spectrogram(torch.nn.Module):
    """As torchaudio's; its window is a buffer, which the weights hold."""

    window: Tensor

    def __init__(
        self, n_fft: int, win_length: int, hop_length: int, window_fn: Callable[[int], Tensor], **_
    ) -> None:
        super().__init__()
        self._sizes = (n_fft, hop_length, win_length)
        self.register_buffer("window", window_fn(win_length))

    def forward(self, samples: Tensor) -> Tensor:
        return torch.stft(samples, *self._sizes, self.window, return_complex=True)


class InverseSpectrogram(Spectrogram):
    """The same."""

    def forward(self, samples: Tensor) -> Tensor:
        return torch.istft(samples, *self._sizes, self.window)


class TimeStretch(torch.nn.Module):
    """Only its buffer."""

    def __init__(self, n_freq: int, hop_length: int) -> None:
        super().__init__()
        advance = torch.linspace(0, torch.pi * hop_length, n_freq)
        self.register_buffer("phase_advance", advance[:, None])


def resampled(samples: np.ndarray, *, orig_sr: int, target_sr: int, **_: object) -> np.ndarray:
    """As librosa's, which takes half a minute to import where nothing is compiled yet."""
    return resample_poly(samples, *Fraction(target_sr, orig_sr).as_integer_ratio())


def perth_watermarker(patch: pytest.MonkeyPatch) -> Any:
    """Its PerthImplicitWatermarker, loaded."""
    spec = find_spec("perth")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent / "perth_net"
    resources: Any = ModuleType("pkg_resources")
    resources.resource_filename = lambda _package, name: str(home / name)
    transforms: Any = ModuleType("torchaudio.transforms")
    transforms.Spectrogram, transforms.TimeStretch = Spectrogram, TimeStretch
    transforms.InverseSpectrogram = InverseSpectrogram
    librosa: Any = ModuleType("librosa")
    librosa.resample = resampled
    for name, module in (
        ("librosa", librosa),
        ("pkg_resources", resources),
        ("torchaudio", ModuleType("torchaudio")),
        ("torchaudio.transforms", transforms),
    ):
        patch.setitem(sys.modules, name, module)
    found = import_module("perth.perth_net.perth_net_implicit.perth_watermarker")
    return found.PerthImplicitWatermarker()
