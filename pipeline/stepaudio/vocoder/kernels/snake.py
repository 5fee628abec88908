# pyright: basic, reportCallIssue=false, reportArgumentType=false
# Triton launches kernels with keywords of its own and marks its integers as constexpr.
"""HiFT's residual blocks with all that stands between two convolutions in one pass.

A convolution's bias, the sum with what went before, and the next Snake: in plain torch six passes
over tensors that are as long as the audio.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from pipeline.stepaudio.vocoder.hift.generator import SNAKE_EPS, Hift, ResBlock

_BLOCK = 1024
_INTERPRETED = 65536  # a program of Triton's interpreter costs the same for few numbers and many


@triton.jit
def _pass(
    x, bias, before, alpha, total, activated, n_channels, length, eps,
    HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, HAS_NEXT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    channel = row % n_channels
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_inside = at < length
    at = row.to(tl.int64) * length + at
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
    """x [B, C, L] + bias + before → that sum, and its Snake; what is not asked for is nonsense."""
    total = x if before is None else torch.empty_like(x)
    activated = x if alpha is None else torch.empty_like(x)
    n_batch, n_channels, length = x.shape
    block = _BLOCK if x.is_cuda else _INTERPRETED
    _pass[(triton.cdiv(length, block), n_batch * n_channels)](
        x, x if bias is None else bias, x if before is None else before,
        x if alpha is None else alpha, total, activated, n_channels, length, SNAKE_EPS,
        HAS_BIAS=bias is not None, HAS_BEFORE=before is not None, HAS_NEXT=alpha is not None,
        BLOCK=block, num_warps=4,
    )  # fmt: skip
    return total, activated


class _QuickBlock:
    """`ResBlock`; its weights are read."""

    def __init__(self, block: ResBlock) -> None:
        convolutions = zip(block.convs1, block.convs2, strict=True)
        self._pairs = [(cast("nn.Conv1d", a), cast("nn.Conv1d", b)) for a, b in convolutions]
        snakes = zip(block.activations1, block.activations2, strict=True)
        self._alphas = [(a.get_parameter("alpha"), b.get_parameter("alpha")) for a, b in snakes]

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, L] → the same."""
        x = x.contiguous()
        _, activated = _launch(x, None, None, self._alphas[0][0])
        for i, (conv1, conv2) in enumerate(self._pairs):
            _, activated = _launch(_convolved(conv1, activated), conv1.bias, None, self._alphas[i][1])
            following = self._alphas[i + 1][0] if i + 1 < len(self._pairs) else None
            x, activated = _launch(_convolved(conv2, activated), conv2.bias, x, following)
        return x


def _convolved(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Without its bias."""
    padding, dilation = cast("tuple[int]", conv.padding), conv.dilation
    return F.conv1d(x, conv.weight, None, conv.stride, padding, dilation).contiguous()


def quicken(hift: Hift) -> None:
    """From now on its residual blocks run as above. Weight norms are fused before."""
    for block in (*hift.source_resblocks, *hift.resblocks):
        cast("ResBlock", block).quick = _QuickBlock(cast("ResBlock", block))
