# pyright: basic
"""Critics that tell speech from what a vocoder made: by periods of samples and by spectrograms.

Small relatives of HiFi-GAN's multi-period and UnivNet's multi-resolution discriminators.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

PERIODS = (2, 3, 5, 7, 11)
RESOLUTIONS = ((512, 128, 512), (1024, 256, 1024), (2048, 480, 1200))  # n_fft, hop, window
SLOPE = 0.1
MAGNITUDE_FLOOR = 1e-5

Judged = list[tuple[Tensor, list[Tensor]]]  # of each critic: scores, and what its layers saw


class PeriodCritic(nn.Module):
    """Every `period`-th sample in a row. [B, L] → scores, features."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, channels, 2 * channels, 4 * channels, 4 * channels)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)))
            for a, b in itertools.pairwise(widths)
        )
        self.score = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        samples = samples[:, : samples.shape[1] // self.period * self.period]
        return _through(self.convs, self.score, samples.unflatten(1, (-1, self.period))[:, None])


class ResolutionCritic(nn.Module):
    """A log spectrogram. [B, L] → scores, features."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int, window: int, channels: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, channels, (9, 3), stride, (4, 1)))
            for a, stride in ((1, (1, 1)), (channels, (2, 1)), (channels, (2, 2)), (channels, 2))
        )
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        spectrum = torch.stft(
            samples, self.n_fft, self.hop, len(self.window), self.window, return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return _through(self.convs, self.score, (power + MAGNITUDE_FLOOR).log()[:, None] / 4)


class Critics(nn.Module):
    """All of them. channels: width of their first layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        by_period = (PeriodCritic(period, channels) for period in PERIODS)
        by_resolution = (ResolutionCritic(*each, 2 * channels) for each in RESOLUTIONS)
        self.each = nn.ModuleList((*by_period, *by_resolution))

    def forward(self, samples: Tensor) -> Judged:
        return [critic(samples) for critic in self.each]

    def judge_frozen(self, samples: Tensor) -> Judged:
        """As `forward`, but gradients reach the samples alone."""
        frozen: Mapping[str, Tensor] = {
            name: parameter.detach() for name, parameter in self.named_parameters()
        }
        return torch.func.functional_call(self, dict(frozen), (samples,))


def _through(convs: nn.ModuleList, score: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    features = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        features.append(x)
    return score(x), features


def critics_loss(real: Judged, made: Judged) -> Tensor:
    """Least squares: real speech is 1, made speech 0."""
    terms = [
        (1 - a).square().mean() + b.square().mean()
        for (a, _), (b, _) in zip(real, made, strict=True)
    ]
    return torch.stack(terms).mean()


def deceit_loss(made: Judged) -> Tensor:
    """How far the critics are from taking it for speech."""
    return torch.stack([(1 - score).square().mean() for score, _ in made]).mean()


def likeness_loss(real: Judged, made: Judged) -> Tensor:
    """How differently the critics' layers see both."""
    terms = [
        (a.detach() - b).abs().mean() / a.detach().abs().mean().clamp(min=1e-4)
        for (_, own), (_, others) in zip(real, made, strict=True)
        for a, b in zip(own, others, strict=True)
    ]
    return torch.stack(terms).mean()
