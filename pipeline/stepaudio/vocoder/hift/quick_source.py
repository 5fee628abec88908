# pyright: basic
"""HiFT's harmonic source in a tenth of the work: one phase, sines by recurrence, noise mixed ahead.

Computes what `generator.HarmonicSource` does, within rounding. Harmonics are multiples of one
phase and are only ever summed, so none of them is made: their weighted sum is a polynomial in the
fundamental's cosine (Clenshaw). The noise of a frame depends on seed and number alone, so its
weighted sum is kept instead of it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from pipeline.stepaudio.config import HiftConfig
from pipeline.stepaudio.vocoder.hift.generator import (
    NOISE_FRAMES,
    UNVOICED_NOISE,
    HarmonicSource,
    draw_noise,
)

MIXED_BLOCKS = 512  # eleven minutes of noise, 63 MB at the released sizes


class QuickSource(HarmonicSource):
    """Stands in for a HarmonicSource. mixing: its `l_linear`, loaded."""

    def __init__(self, config: HiftConfig, mixing: nn.Linear) -> None:
        super().__init__(config)
        self.l_linear = mixing
        self._weights, self._bias = mixing.weight[0], mixing.bias.double()
        self._each = mixing.weight[0].tolist()
        n = self.samples_per_frame
        offset = (torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5
        self._offset = offset.view(2, n // 2)  # frames from the centre: before it, and behind
        self._mixed = lru_cache(maxsize=MIXED_BLOCKS)(self._mix)

    @property
    def n_phases(self) -> int:
        """The fundamental's alone."""
        return 1

    def cycles(self, f0: Tensor, start: Tensor | None) -> Tensor:
        """The fundamental's phase at each frame's centre, in cycles; see HarmonicSource.

        f0: [B, T] Hz; start: float64 [B, 1]. Float64 [B, T, 1].
        """
        advance = f0.double() / self.rate_hz * self.samples_per_frame
        cycles = advance.cumsum(dim=1)
        return (cycles if start is None else cycles + start)[..., None]

    def noise_sizes(self, n_frames: int) -> tuple[int, int]:
        """Of `noise`, but for the first, which is one."""
        return n_frames, self.samples_per_frame

    def noise(self, seed: int, first_frame: int, n_frames: int) -> Tensor:
        """For `forward`: [1, n_frames, samples_per_frame], weighted and summed over harmonics."""
        end, parts = first_frame + n_frames, []
        for start in range(first_frame // NOISE_FRAMES * NOISE_FRAMES, end, NOISE_FRAMES):
            block = self._mixed(seed, start)
            parts.append(block[max(first_frame - start, 0) : end - start])
        return torch.cat(parts)[None]

    def _mix(self, seed: int, first_frame: int) -> Tensor:
        """[NOISE_FRAMES, samples_per_frame]"""
        drawn = torch.from_numpy(
            draw_noise(seed, first_frame, self.samples_per_frame, self.n_sines)
        )
        sines = drawn.view(NOISE_FRAMES, self.samples_per_frame, self.n_sines)
        with torch.inference_mode(mode=False):  # it outlives whoever asks first
            return sines @ self._weights.detach()

    def forward(self, f0: Tensor, noise: Tensor, start: Tensor | None = None) -> Tensor:
        """f0 [B, T] Hz, noise as `noise` gives it → excitation [B, 1, L]; start: see `cycles`."""
        phase = self._interpolated(self.cycles(f0, start)[..., 0], start)  # [B, T, 2, N / 2]
        angle = (phase - phase.floor()).mul_(2 * math.pi).flatten(2)  # [B, T, N]
        sines = self._summed(angle)
        voiced = (f0 > self.voiced_above_hz).double()[..., None]
        level = voiced * self.sigma + (1 - voiced) * self.amplitude * UNVOICED_NOISE
        mixed = sines.mul_(voiced * self.amplitude).add_(noise * level).add_(self._bias)
        return mixed.to(f0.dtype).tanh_().flatten(1)[:, None]

    def _interpolated(self, cycles: Tensor, start: Tensor | None) -> Tensor:
        """Phase at frame centres [B, T] → at samples, linear between, constant beyond the ends."""
        before = cycles[:, :1] if start is None else start
        step = torch.cat((before, cycles, cycles[:, -1:]), dim=1).diff(dim=1)  # [B, T + 1]
        sides = torch.stack((step[:, :-1], step[:, 1:]), dim=2)[..., None]  # [B, T, 2, 1]
        return torch.addcmul(cycles[:, :, None, None], self._offset, sides)

    def _summed(self, angle: Tensor) -> Tensor:
        """Σ weight_k sin(k · angle)."""
        twice_cos = angle.cos().mul_(2)
        after, one = torch.zeros_like(angle), torch.zeros_like(angle)
        for weight in reversed(self._each):
            after.neg_().add_(weight).addcmul_(twice_cos, one)
            after, one = one, after
        return angle.sin_().mul_(one)
