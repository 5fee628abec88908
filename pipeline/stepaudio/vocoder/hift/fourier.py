# pyright: basic
"""STFT and its inverse as products with a fixed basis, for work that is recorded.

`torch.istft` looks at its window from the host, and a plan of cuFFT may go while a record still
needs it. In float64: TF32 would be heard.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class FixedFourier:
    """Of one size, on the device of `window` [n_fft]; centred both ways, as torch's are."""

    def __init__(self, n_fft: int, hop: int, window: Tensor) -> None:
        self._n_fft, self._hop = n_fft, hop
        device, wide = window.device, window.double()
        n_bins = n_fft // 2 + 1
        sample = torch.arange(n_fft, device=device)
        turns = torch.outer(torch.arange(n_bins, device=device), sample) % n_fft  # exact
        angle = turns.double() * (2 * torch.pi / n_fft)  # [bins, n_fft]
        weight = torch.full((n_bins, 1), 2.0, device=device, dtype=torch.float64)
        weight[0] = weight[-1] = 1.0  # all others stand for two bins
        real, imaginary = angle.cos(), -angle.sin()
        self._forward = torch.cat((real, imaginary)) * wide  # [2 bins, n_fft]
        inverse = torch.cat((real * weight, imaginary * weight)) * wide / n_fft
        self._inverse = inverse.T.contiguous()  # [n_fft, 2 bins]
        self._squared_window = window.square()[None, :, None]

    def stft(self, signal: Tensor) -> Tensor:
        """[B, 1, L] → real and imaginary halves, [B, n_fft + 2, L / hop + 1]."""
        centred = (self._n_fft // 2, self._n_fft // 2)
        padded = F.pad(signal, centred, mode="reflect").squeeze(1)
        frames = padded.unfold(1, self._n_fft, self._hop).double()  # [B, F, n_fft]
        spectrum = F.linear(frames, self._forward).transpose(1, 2)
        return spectrum.to(signal.dtype, memory_format=torch.contiguous_format)

    def istft(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """[B, n_fft / 2 + 1, F] each → [B, (F - 1) * hop]."""
        n_frames = magnitude.shape[2]
        spectrum = torch.cat((magnitude * phase.cos(), magnitude * phase.sin()), dim=1)
        frames = torch.matmul(self._inverse, spectrum.double()).to(magnitude.dtype)
        envelope = self._overlapped(self._squared_window.expand(-1, -1, n_frames))
        return self._overlapped(frames) / envelope

    def _overlapped(self, frames: Tensor) -> Tensor:
        """[B, n_fft, F] → their sum where they overlap, without the halves beyond the ends."""
        length = self._n_fft + (frames.shape[2] - 1) * self._hop
        summed = F.fold(frames, (1, length), (1, self._n_fft), stride=(1, self._hop))
        half = self._n_fft // 2
        return summed[:, 0, 0, half : length - half]
