# pyright: basic
"""STFT and its inverse as products with a fixed basis.

For work that is recorded: `torch.istft` looks at its window from the host, and a plan of cuFFT may
go while a record still needs it; in float64, as TF32 would be heard. And for a CPU, where a
transform of sixteen samples is mostly its call.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class FixedFourier:
    """Of one size, on the device of `window` [n_fft]; centred both ways, as torch's are."""

    def __init__(self, n_fft: int, hop: int, window: Tensor) -> None:
        self._n_fft, self._hop = n_fft, hop
        wide = window.double()
        self._forward = torch.cat(_waves(n_fft, window.device)) * wide  # [2 bins, n_fft]
        self._inverse = _inverse(window)
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


class QuickInverse:
    """The inverse alone, in float32: frames overlap by whole hops, so their sum is a few additions.

    hop: a part of n_fft without remainder.
    """

    def __init__(self, n_fft: int, hop: int, window: Tensor) -> None:
        assert n_fft % (2 * hop) == 0
        self._hops, self._hop = n_fft // hop, hop
        self._inverse = _inverse(window).to(window.dtype)
        self._squared_window = window.square().view(1, 1, self._hops, hop)

    def istft(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """[B, n_fft / 2 + 1, F] each → [B, (F - 1) * hop]."""
        spectrum = torch.cat((magnitude * phase.cos(), magnitude * phase.sin()), dim=1)
        frames = F.linear(spectrum.transpose(1, 2), self._inverse)  # [B, F, n_fft]
        frames = frames.unflatten(2, (self._hops, self._hop))
        shape = (1, frames.shape[1], self._hops, self._hop)
        envelope = self._overlapped(self._squared_window.expand(shape))
        return self._overlapped(frames).div_(envelope).flatten(1)

    def _overlapped(self, frames: Tensor) -> Tensor:
        """[B, F, hops, hop] → their sum, without the halves beyond the ends, [B, F - 1, hop]."""
        n_rows, n_frames = frames.shape[:2]
        summed = frames.new_zeros(n_rows, n_frames + self._hops - 1, self._hop)
        for i in range(self._hops):
            summed[:, i : i + n_frames] += frames[:, :, i]
        half = self._hops // 2
        return summed[:, half : half + n_frames - 1]


def _waves(n_fft: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of each bin at each sample, float64 [n_fft / 2 + 1, n_fft]."""
    sample = torch.arange(n_fft, device=device)
    turns = torch.outer(torch.arange(n_fft // 2 + 1, device=device), sample) % n_fft  # exact
    angle = turns.double() * (2 * torch.pi / n_fft)
    return angle.cos(), -angle.sin()


def _inverse(window: Tensor) -> Tensor:
    """A spectrum's real and imaginary halves → a windowed frame, float64 [n_fft, n_fft + 2]."""
    n_fft = len(window)
    weight = torch.full((n_fft // 2 + 1, 1), 2.0, device=window.device, dtype=torch.float64)
    weight[0] = weight[-1] = 1.0  # all others stand for two bins
    halves = [half * weight for half in _waves(n_fft, window.device)]
    return (torch.cat(halves) * window.double() / n_fft).T.contiguous()
