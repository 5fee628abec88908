# pyright: basic, reportCallIssue=false, reportArgumentType=false
# Triton launches kernels with keywords of its own and marks its integers as constexpr.
"""HiFT's residual blocks with all that stands between two convolutions in one pass.

A convolution's bias, the sum with what went before, and the next Snake: in plain torch six passes
over tensors that are as long as the audio.
"""

from __future__ import annotations

from typing import cast

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from pipeline.stepaudio.vocoder.hift.generator import SNAKE_EPS, ResBlock, Snake
from pipeline.stepaudio.vocoder.hift.quick_upsampler import QuickConv

_BLOCK = 1024
_INTERPRETED = 65536  # a program of Triton's interpreter costs the same for few numbers and many


@triton.jit
def _pass(
    x, bias, before, alpha, total, activated, n, eps, CHANNELS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, HAS_NEXT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = (at % CHANNELS).to(tl.int32)
    is_inside = at < n
    y = tl.load(x + at, mask=is_inside, other=0.0)
    if HAS_BIAS:
        y += tl.load(bias + channel)
    if HAS_BEFORE:
        y += tl.load(before + at, mask=is_inside, other=0.0)
        tl.store(total + at, y, mask=is_inside)
    if HAS_NEXT:
        a = tl.load(alpha + channel)
        sine = tl.sin(y * a)
        tl.store(activated + at, y + sine * sine / (a + eps), mask=is_inside)


def _launch(
    x: Tensor, bias: Tensor | None, before: Tensor | None, alpha: Tensor | None
) -> tuple[Tensor, Tensor]:
    """x + bias + before → that sum, and its Snake; what is not asked for is nonsense.

    [B, C, 1, L], channels side by side in memory.
    """
    total = x if before is None else torch.empty_like(x)
    activated = x if alpha is None else torch.empty_like(x)
    block = _BLOCK if x.is_cuda else _INTERPRETED
    _pass[(triton.cdiv(x.numel(), block),)](
        x, x if bias is None else bias, x if before is None else before,
        x if alpha is None else alpha, total, activated, x.numel(), SNAKE_EPS,
        CHANNELS=x.shape[1], HAS_BIAS=bias is not None, HAS_BEFORE=before is not None,
        HAS_NEXT=alpha is not None, BLOCK=block, num_warps=4,
    )  # fmt: skip
    return total, activated


class FusedBlock:
    """Implements `quick_upsampler.QuickBlock`; weights are copied."""

    def __init__(self, block: nn.Module) -> None:
        block = cast("ResBlock", block)
        convolutions = zip(block.convs1, block.convs2, strict=True)
        self._pairs = [(QuickConv.of(a), QuickConv.of(b)) for a, b in convolutions]
        snakes = zip(block.activations1, block.activations2, strict=True)
        self._alphas = [(_alpha(a), _alpha(b)) for a, b in snakes]

    @property
    def reach(self) -> float:
        """See `QuickConv`."""
        return sum(conv1.reach + conv2.reach for conv1, conv2 in self._pairs)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, 1, L], channels side by side → the same."""
        x = _side_by_side(x)
        _, activated = _launch(x, None, None, self._alphas[0][0])
        for i, (conv1, conv2) in enumerate(self._pairs):
            convolved = _side_by_side(conv1.unbiased(activated))
            _, activated = _launch(convolved, conv1.bias, None, self._alphas[i][1])
            convolved = _side_by_side(conv2.unbiased(activated))
            following = self._alphas[i + 1][0] if i + 1 < len(self._pairs) else None
            x, activated = _launch(convolved, conv2.bias, x, following)
        return x


def _alpha(snake: nn.Module) -> Tensor:
    return cast("Snake", snake).alpha.detach()


def _side_by_side(x: Tensor) -> Tensor:
    """As it is, where a convolution kept the order of its input."""
    return x.contiguous(memory_format=torch.channels_last)
