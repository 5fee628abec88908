# pyright: basic
"""Mel → waveform: F0 predictor, harmonic source, and the upsampling network with inverse STFT.

Stateless: streaming passes what continues (F0, phase, noise) in and gets it back, see
`hift_stream`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from pipeline.contracts import Float32Array
from pipeline.stepaudio.config import F0Config, HiftConfig
from pipeline.stepaudio.vocoder.hift.fourier import FixedFourier

F0_LAYERS = 5
F0_KERNEL = 3
EDGE_KERNEL = 7  # first and last convolution
MAX_MAGNITUDE = 100.0  # of an STFT bin
SNAKE_EPS = 1e-9
CPU = torch.device("cpu")
NOISE_FRAMES = 64  # noise is made in blocks of so many frames
NOISE_BLOCKS = 48  # and a minute of it kept, 53 MB: to draw it costs as much as to compute HiFT
UNVOICED_NOISE = 1 / 3  # noise level of unvoiced samples, in units of the sine amplitude


class F0Predictor(nn.Module):
    """Mel → fundamental frequency per frame."""

    def __init__(self, config: F0Config) -> None:
        super().__init__()
        widths = [config.in_channels] + [config.cond_channels] * F0_LAYERS
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            conv = nn.Conv1d(n_in, n_out, F0_KERNEL, padding=F0_KERNEL // 2)
            layers += [weight_norm(conv), nn.ELU()]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(config.cond_channels, config.num_class)

    def forward(self, mel: Tensor) -> Tensor:
        """mel: [B, M, T] → Hz [B, T]"""
        return self.classifier(self.condnet(mel).transpose(1, 2)).squeeze(-1).abs()


class Snake(nn.Module):
    """x + sin²(αx) / α, one α per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha[:, None]  # [C, 1]
        return torch.addcdiv(x, torch.sin(x * alpha).square(), alpha + SNAKE_EPS)


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each behind a Snake."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()

        def conv(dilation: int) -> nn.Module:
            padding = (kernel - 1) * dilation // 2
            return weight_norm(
                nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=padding)
            )

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        layers = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for snake1, conv1, snake2, conv2 in layers:
            x = x + conv2(snake2(conv1(snake1(x))))
        return x


class HarmonicSource(nn.Module):
    """F0 → excitation: sines where voiced, noise elsewhere, mixed by one linear layer."""

    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self.rate_hz = config.sampling_rate
        self.samples_per_frame = config.samples_per_frame
        self.n_sines = config.nb_harmonics + 1
        self.amplitude = config.nsf_alpha
        self.sigma = config.nsf_sigma
        self.voiced_above_hz = config.nsf_voiced_threshold
        self.l_linear = nn.Linear(self.n_sines, 1)

    def cycles(self, f0: Tensor, start: Tensor | None) -> Tensor:
        """Phase at each frame's centre, in cycles since the utterance began.

        f0: [B, T] Hz; start: [B, H] float64, the phase at the frame before, None at the beginning.
        Float64 [B, T, H]: float32 drifts audibly within a minute.
        """
        harmonic = torch.arange(1, self.n_sines + 1, device=f0.device, dtype=torch.float64)
        advance = (f0.double()[..., None] * harmonic / self.rate_hz) % 1 * self.samples_per_frame
        cycles = advance.cumsum(dim=1)
        return cycles if start is None else cycles + start[:, None]

    @property
    def n_phases(self) -> int:
        """Of a frame, see `cycles`."""
        return self.n_sines

    def noise_sizes(self, n_frames: int) -> tuple[int, int]:
        """Of `noise`, but for the first, which is one."""
        return n_frames * self.samples_per_frame, self.n_sines

    def noise(self, seed: int, first_frame: int, n_frames: int) -> Tensor:
        """For `forward`, of so many frames from `first_frame` on; see `source_noise`."""
        sizes = (self.samples_per_frame, self.n_sines)
        return source_noise(seed, first_frame, n_frames, *sizes, self.l_linear.weight.device)

    def forward(self, f0: Tensor, noise: Tensor, start: Tensor | None = None) -> Tensor:
        """f0 [B, T] Hz → excitation [B, 1, L].

        noise: standard normal [B, L, H], L = T * samples_per_frame; start: see `cycles`.
        """
        phase = self._interpolate(self.cycles(f0, start), start)
        sines = self.amplitude * torch.sin(2 * torch.pi * (phase % 1)).to(f0.dtype)  # [B, L, H]
        voiced = (f0 > self.voiced_above_hz).to(f0.dtype)
        voiced = voiced[..., None].expand(-1, -1, self.samples_per_frame)
        voiced = voiced.flatten(1, 2)[..., None]  # [B, L, 1]
        level = voiced * self.sigma + (1 - voiced) * self.amplitude * UNVOICED_NOISE
        return torch.tanh(self.l_linear(sines * voiced + level * noise)).transpose(1, 2)

    def _interpolate(self, cycles: Tensor, start: Tensor | None) -> Tensor:
        """Phase at frame centres → at samples, linear between, constant beyond the ends.

        [B, T, H] → [B, L, H]
        """
        before = cycles[:, :1] if start is None else start[:, None]
        borders = torch.cat((before, cycles, cycles[:, -1:]), dim=1)
        step = torch.diff(borders, dim=1)  # [B, T + 1, H]
        n = self.samples_per_frame
        offset = (torch.arange(n, device=cycles.device, dtype=torch.float64) + 0.5) / n - 0.5
        offset = offset[:, None]  # [N, 1], in frames from the centre
        back, ahead = step[:, :-1, None], step[:, 1:, None]
        phase = cycles[:, :, None] + offset * torch.where(offset < 0, back, ahead)  # [B, T, N, H]
        return phase.flatten(1, 2)


class QuickNetwork(Protocol):
    """Stands in for `Hift._upsample` and `_istft`, and may leave out what nobody asked for."""

    def run_for(self, wanted: range, n_frames: int) -> range:
        """The frames to run, of so many, for those that are wanted to be right."""
        ...

    def __call__(self, mel: Tensor, source: Tensor, run: range) -> Tensor:
        """Of the frames in `run` only; see `Hift._upsample`."""
        ...

    def istft(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """[B, n_fft / 2 + 1, F] each → [B, (F - 1) * hop]."""
        ...


class Hift(nn.Module):
    """Mel and excitation → waveform."""

    window: Tensor

    def __init__(self, config: HiftConfig, f0_config: F0Config) -> None:
        super().__init__()
        self.n_fft, self.hop = config.istft_params.n_fft, config.istft_params.hop_len
        self.slope, self.limit = config.lrelu_slope, config.audio_limit
        self.n_mels, self.samples_per_frame = config.in_channels, config.samples_per_frame
        self.n_kernels = len(config.resblock_kernel_sizes)
        n_stft = self.n_fft + 2  # real and imaginary halves
        widths = [config.base_channels >> i for i in range(len(config.upsample_rates) + 1)]
        self.m_source = HarmonicSource(config)
        self.f0_predictor = F0Predictor(f0_config)
        self.conv_pre = weight_norm(_edge_conv(config.in_channels, widths[0]))
        self.ups = nn.ModuleList()
        self.source_downs = nn.ModuleList()
        self.source_resblocks = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for i, stage in enumerate(_stages(config)):
            n_in, n_out = widths[i], widths[i + 1]
            up = nn.ConvTranspose1d(
                n_in, n_out, stage.kernel, stage.rate, padding=(stage.kernel - stage.rate) // 2
            )
            self.ups.append(weight_norm(up))
            self.source_downs.append(_source_conv(n_stft, n_out, stage.source_stride))
            self.source_resblocks.append(
                ResBlock(n_out, stage.source_kernel, stage.source_dilations)
            )
            for kernel, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(ResBlock(n_out, kernel, dilations))
        self.conv_post = weight_norm(_edge_conv(widths[-1], n_stft))
        self.quick: QuickNetwork | None = None  # instead of `_upsample`
        window = torch.hann_window(self.n_fft, periodic=True)
        self.register_buffer("window", window, persistent=False)

    def fuse_weight_norm(self) -> None:
        """Fold gain and direction into plain weights, for inference.

        The official key names are gone afterwards.
        """
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")

    def forward(self, mel: Tensor, noise: Tensor) -> Tensor:
        """A whole utterance: mel [B, M, T] → samples [B, T * samples_per_frame].

        noise: as for the source.
        """
        return self.decode(mel, self.m_source(self.f0_predictor(mel), noise))

    def decode(
        self,
        mel: Tensor,
        source: Tensor,
        fourier: FixedFourier | None = None,
        wanted: range | None = None,
    ) -> Tensor:
        """mel [B, M, T], source [B, 1, L] → samples [B, L] within the audio limit.

        L is T * samples_per_frame. fourier: of `n_fft`, `hop` and `window`, where work is recorded.
        wanted: the frames whose samples to return, None for all.
        """
        spectrum = self._stft(source) if fourier is None else fourier.stft(source)
        run = range(mel.shape[2])
        wanted = wanted or run
        inverse = self._istft if fourier is None else fourier.istft
        if self.quick is None:
            x = self._upsample(mel, spectrum)
        else:
            run, inverse = self.quick.run_for(wanted, mel.shape[2]), self.quick.istft
            x = self.quick(mel, spectrum, run)
        n_bins = self.n_fft // 2 + 1
        magnitude = x[:, :n_bins].exp().clamp(max=MAX_MAGNITUDE)
        phase = x[:, n_bins:].sin()  # bounded on purpose: the model was trained so
        samples = inverse(magnitude, phase).clamp(-self.limit, self.limit)
        first, end = ((i - run.start) * self.samples_per_frame for i in (wanted.start, wanted.stop))
        return samples[:, first:end]

    def _stft(self, source: Tensor) -> Tensor:
        spectrum = torch.stft(
            source.squeeze(1), self.n_fft, self.hop, window=self.window, return_complex=True
        )
        return torch.cat((spectrum.real, spectrum.imag), dim=1)

    def _istft(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        return torch.istft(torch.polar(magnitude, phase), self.n_fft, self.hop, window=self.window)

    def _upsample(self, mel: Tensor, source: Tensor) -> Tensor:
        """mel [B, M, T], source spectrum [B, n_fft + 2, F] → log-magnitude and phase.

        Both stacked, [B, n_fft + 2, F].
        """
        x = self.conv_pre(mel)
        for i, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, self.slope))
            if i == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")  # a centred STFT has one frame more than hops
            x = x + self.source_resblocks[i](self.source_downs[i](source))
            blocks = self.resblocks[i * self.n_kernels : (i + 1) * self.n_kernels]
            total = blocks[0](x)
            for block in blocks[1:]:
                total = total + block(x)
            x = total / self.n_kernels
        return self.conv_post(F.leaky_relu(x))


@dataclass(frozen=True, slots=True)
class _Stage:
    """One upsampling stage.

    source_stride: from the rate of the excitation's spectrum down to this stage's.
    """

    rate: int
    kernel: int
    source_stride: int
    source_kernel: int
    source_dilations: tuple[int, ...]


def _stages(config: HiftConfig) -> list[_Stage]:
    rates = config.upsample_rates
    strides = [int(np.prod(rates[i + 1 :], dtype=int)) for i in range(len(rates))]
    return [
        _Stage(*fields)
        for fields in zip(
            rates,
            config.upsample_kernel_sizes,
            strides,
            config.source_resblock_kernel_sizes,
            config.source_resblock_dilation_sizes,
            strict=True,
        )
    ]


def _edge_conv(n_in: int, n_out: int) -> nn.Conv1d:
    return nn.Conv1d(n_in, n_out, EDGE_KERNEL, padding=EDGE_KERNEL // 2)


def _source_conv(n_in: int, n_out: int, stride: int) -> nn.Conv1d:
    if stride == 1:
        return nn.Conv1d(n_in, n_out, 1)
    return nn.Conv1d(n_in, n_out, 2 * stride, stride, padding=stride // 2)


def source_noise(
    seed: int,
    first_frame: int,
    n_frames: int,
    samples_per_frame: int,
    n_sines: int,
    device: torch.device = CPU,
) -> Tensor:
    """Standard normal noise for the source, [1, n_frames * samples_per_frame, n_sines].

    A frame's noise depends on seed and frame number alone, so chunks of any size see the same
    noise.
    """
    end, parts = first_frame + n_frames, []
    for start in range(first_frame // NOISE_FRAMES * NOISE_FRAMES, end, NOISE_FRAMES):
        block = _noise_block(seed, start, samples_per_frame, n_sines, device)
        parts.append(block[max(first_frame - start, 0) : end - start])
    return torch.cat(parts).view(1, n_frames * samples_per_frame, n_sines)


@lru_cache(maxsize=NOISE_BLOCKS)
def _noise_block(
    seed: int, first_frame: int, samples_per_frame: int, n_sines: int, device: torch.device
) -> Tensor:
    """[NOISE_FRAMES, samples_per_frame * n_sines]; every stream of a seed asks for the same."""
    frames = draw_noise(seed, first_frame, samples_per_frame, n_sines)
    with torch.inference_mode(mode=False):  # it outlives whoever asks first
        return torch.from_numpy(frames).to(device)


def draw_noise(seed: int, first_frame: int, samples_per_frame: int, n_sines: int) -> Float32Array:
    """Standard normal [NOISE_FRAMES, samples_per_frame * n_sines]."""
    frames = np.empty((NOISE_FRAMES, samples_per_frame * n_sines), np.float32)
    for i in range(NOISE_FRAMES):
        bits = np.random.Philox(key=seed, counter=[0, 0, first_frame + i, 0])
        np.random.Generator(bits).standard_normal(dtype=np.float32, out=frames[i])
    return frames
