# pyright: basic
"""HiFT's network with channels side by side in memory, as convolutions like it.

Computes what `generator.Hift` does between spectra, within rounding. Convolutions in one dimension
reorder input, weights and output at every call, which takes as long as they do; in two, one of them
of size one, channels-last tensors go in and out as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.vocoder.hift.fourier import FixedFourier, QuickInverse
from pipeline.stepaudio.vocoder.hift.generator import SNAKE_EPS, Hift, ResBlock, Snake


@dataclass(frozen=True, slots=True)
class QuickConv:
    """A convolution in one dimension on [B, C, 1, L], channels side by side; weights are copied."""

    weight: Tensor
    bias: Tensor | None
    stride: int
    padding: int
    dilation: int
    is_up: bool

    @property
    def reach(self) -> float:
        """Places to each side that an output depends on, of its input's; upwards of its own."""
        return (self.weight.shape[3] - 1) / 2 * self.dilation

    @classmethod
    def of(cls, module: nn.Module) -> QuickConv:
        conv = cast("nn.Conv1d | nn.ConvTranspose1d", module)
        sizes = (conv.stride[0], cast("int", conv.padding[0]), conv.dilation[0])
        is_up = isinstance(conv, nn.ConvTranspose1d)
        return cls(_side_by_side(conv.weight), conv.bias, *sizes, is_up)

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x, self.bias)

    def unbiased(self, x: Tensor) -> Tensor:
        """For who adds the bias in a pass of his own."""
        return self._run(x, None)

    def _run(self, x: Tensor, bias: Tensor | None) -> Tensor:
        stride, padding = (1, self.stride), (0, self.padding)
        if self.is_up:
            return F.conv_transpose2d(x, self.weight, bias, stride, padding)
        return F.conv2d(x, self.weight, bias, stride, padding, (1, self.dilation))


def _side_by_side(x: Tensor) -> Tensor:
    """[B, C, L] → [B, C, 1, L], the channels of a place next to each other."""
    return x.detach()[:, :, None].contiguous(memory_format=torch.channels_last)


class _Snake:
    def __init__(self, snake: nn.Module) -> None:
        self._alpha = cast("Snake", snake).alpha.detach()[:, None, None]
        self._share = 1 / (self._alpha + SNAKE_EPS)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, (x * self._alpha).sin_().square_(), self._share)


class QuickBlock(Protocol):
    """A residual block on [B, C, 1, L], channels side by side."""

    @property
    def reach(self) -> float:
        """Places to each side that an output depends on."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """The same sizes; `x` stays as it is."""
        ...


class _Block:
    def __init__(self, block: nn.Module) -> None:
        block = cast("ResBlock", block)
        halves = (block.activations1, block.convs1, block.activations2, block.convs2)
        self._layers = [
            (_Snake(snake1), QuickConv.of(conv1), _Snake(snake2), QuickConv.of(conv2))
            for snake1, conv1, snake2, conv2 in zip(*halves, strict=True)
        ]

    @property
    def reach(self) -> float:
        """See `QuickConv`."""
        return sum(conv1.reach + conv2.reach for _, conv1, _, conv2 in self._layers)

    def __call__(self, x: Tensor) -> Tensor:
        for snake1, conv1, snake2, conv2 in self._layers:
            x = conv2(snake2(conv1(snake1(x)))).add_(x)
        return x


@dataclass(frozen=True, slots=True)
class _Stage:
    up: QuickConv
    down: QuickConv
    source: QuickBlock
    blocks: Sequence[QuickBlock]


class QuickUpsampler:
    """Implements `generator.QuickNetwork`.

    hift: loaded, weight norm fused, of two stages at least; its weights are copied. block: makes
    residual blocks. fourier: whose inverse transform to use, None for a quick one in float32.
    """

    def __init__(
        self,
        hift: Hift,
        block: Callable[[nn.Module], QuickBlock] = _Block,
        fourier: FixedFourier | None = None,
    ) -> None:
        self._pre, self._post = QuickConv.of(hift.conv_pre), QuickConv.of(hift.conv_post)
        self._slope, n = hift.slope, hift.n_kernels
        parts = zip(hift.ups, hift.source_downs, hift.source_resblocks, strict=True)
        self._stages = [
            _Stage(
                QuickConv.of(up),
                QuickConv.of(down),
                block(source),
                [block(one) for one in hift.resblocks[i * n : (i + 1) * n]],
            )
            for i, (up, down, source) in enumerate(parts)
        ]

        self.istft = (fourier or QuickInverse(hift.n_fft, hift.hop, hift.window)).istft
        self._first_rate = self._stages[0].up.stride  # places per frame after the first stage
        self._spectra = hift.samples_per_frame // hift.hop  # per frame
        self._margin = math.ceil(self._reach() + (hift.n_fft / hift.hop + 1) / self._spectra)

    def _reach(self) -> float:
        """Frames to each side that a spectrum depends on, behind the first stage."""
        rate, reach = self._first_rate, self._post.reach / self._spectra
        for stage in self._stages[1:]:
            rate *= stage.up.stride
            ahead = stage.down.reach / self._spectra + stage.source.reach / rate
            widest = max(block.reach for block in stage.blocks)
            reach += max(stage.up.reach / rate, ahead) + widest / rate
        return reach

    def run_for(self, wanted: range, n_frames: int) -> range:
        """See QuickNetwork. The first stage looks far, and is always run whole."""
        return range(max(0, wanted.start - self._margin), min(n_frames, wanted.stop + self._margin))

    def __call__(self, mel: Tensor, source: Tensor, run: range) -> Tensor:
        """See QuickNetwork."""
        x, spectrum = self._pre(_side_by_side(mel)), _side_by_side(source)
        for stage in self._stages:
            x = stage.up(F.leaky_relu(x, self._slope))
            if stage is self._stages[-1]:  # a centred STFT has one frame more than hops
                x = torch.cat((x[..., 1:2], x), dim=3)
            x.add_(stage.source(stage.down(spectrum)))
            total = stage.blocks[0](x)
            for block in stage.blocks[1:]:
                total.add_(block(x))
            x = total.div_(len(stage.blocks))
            if stage is self._stages[0]:
                x = x[..., run.start * self._first_rate : run.stop * self._first_rate]
                spectrum = spectrum[..., run.start * self._spectra : run.stop * self._spectra + 1]
        return self._post(F.leaky_relu(x)).squeeze(2).contiguous()
