# pyright: basic, reportCallIssue=false, reportArgumentType=false
# Triton launches kernels with keywords of its own and marks its integers as constexpr.
"""The smallest Triton kernel: whether others can run is seen by it. Imported by who tries."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 16


@triton.jit
def _doubled(x, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(x + at, tl.load(x + at, mask=at < n, other=0.0) * 2, mask=at < n)


def double(x: Tensor) -> None:
    """Up to 16 numbers, in place."""
    _doubled[(1,)](x, len(x), BLOCK=_BLOCK)
