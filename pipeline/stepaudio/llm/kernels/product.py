# pyright: basic, reportCallIssue=false, reportArgumentType=false
# Triton launches kernels with keywords of its own and marks its integers as constexpr.
"""Triton kernels of products of a few rows with a weight, which are bound by reading the weight.

Imported only where Triton is available. Two kernels: for one row sums of products, including the
row's RMS norm; for more rows the tensor cores, where a row's bits do not depend on their number.
Both include the operation after the product: a gated activation or a residual.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from pipeline.stepaudio.llm.kernels.decode import dot, silu

MOST_ROWS = 64  # beyond it a library's product wins
_LEAST_ROWS = 16  # of a matrix product on the tensor cores


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a product is cut: `n` outputs a program, `k` inputs at a time, by `warps` warps."""

    n: int
    k: int
    warps: int
    stages: int
    """How many reads of `k` inputs are under way; of one row 1 leaves it to the compiler."""


ROW_TILINGS = (
    Tiling(4, 1024, 4, 1),
    Tiling(2, 1024, 4, 1),
    Tiling(8, 1024, 4, 1),
    Tiling(8, 512, 4, 3),
    Tiling(8, 1024, 8, 4),
)
BATCH_TILINGS = (
    Tiling(16, 256, 4, 4),
    Tiling(16, 128, 2, 6),
    Tiling(32, 128, 4, 5),
    Tiling(32, 256, 4, 3),
)


@triton.jit
def _finish(
    summed,
    gated,
    residual,
    out,
    places,
    is_inside,
    GATED: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    """What follows a product, rounded to bfloat16 where the plain form rounds."""
    value = summed.to(tl.bfloat16).to(tl.float32)
    if GATED:
        value = silu(summed) * gated.to(tl.bfloat16).to(tl.float32)
    if RESIDUAL:
        value += tl.load(residual + places, mask=is_inside, other=0.0).to(tl.float32)
    tl.store(out + places, value.to(tl.bfloat16).to(out.dtype.element_ty), mask=is_inside)


@triton.jit
def _row(
    x,
    weight,
    gain,
    residual,
    out,
    eps,
    N: tl.constexpr,
    K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    NORM: tl.constexpr,
    GATED: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    """A norm's scale is a factor of the whole sum: it is taken beside it and applied at the end."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_inside = n < N
    of_row = weight + tl.where(is_inside, n, 0).to(tl.int64)[:, None] * K
    summed = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    gated = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    squares = tl.zeros((BLOCK_K,), tl.float32)
    for start in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        k = start + tl.arange(0, BLOCK_K)
        is_k = k < K  # always so, and known to be, where BLOCK_K divides K
        weights = tl.load(
            of_row + k[None, :], mask=is_k[None, :], other=0.0, eviction_policy="evict_first"
        )
        inputs = tl.load(x + k, mask=is_k, other=0.0).to(tl.float32)
        if NORM:
            squares += inputs * inputs
            inputs *= tl.load(gain + k, mask=is_k, other=0.0).to(tl.float32)
        summed += weights.to(tl.float32) * inputs[None, :]
        if GATED:
            others = tl.load(
                of_row + N * K + k[None, :],
                mask=is_k[None, :],
                other=0.0,
                eviction_policy="evict_first",
            )
            gated += others.to(tl.float32) * inputs[None, :]
    scale = 1.0
    if NORM:
        scale = tl.rsqrt(tl.sum(squares, 0) / K + eps)
    _finish(
        tl.sum(summed, 1) * scale,
        tl.sum(gated, 1) * scale,
        residual,
        out,
        n,
        is_inside,
        GATED,
        RESIDUAL,
    )


@triton.jit(do_not_specialize=["n_rows"])
def _rows(
    x,
    weight,
    residual,
    out,
    n_rows,
    N: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GATED: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    m = tl.arange(0, BLOCK_M)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_inside = m < n_rows, n < N
    of_row = weight + tl.where(is_inside, n, 0).to(tl.int64)[:, None] * K
    of_input = x + m[:, None] * K
    summed = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    gated = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        is_k = (k < K)[None, :]
        inputs = tl.load(of_input + k[None, :], mask=is_row[:, None] & is_k, other=0.0)
        weights = tl.load(of_row + k[None, :], mask=is_k, other=0.0, eviction_policy="evict_first")
        summed = dot(inputs, tl.trans(weights), summed)
        if GATED:
            others = tl.load(
                of_row + N * K + k[None, :], mask=is_k, other=0.0, eviction_policy="evict_first"
            )
            gated = dot(inputs, tl.trans(others), gated)
    _finish(
        summed,
        gated,
        residual,
        out,
        m[:, None] * N + n[None, :],
        is_row[:, None] & is_inside[None, :],
        GATED,
        RESIDUAL,
    )


def row_product(
    tiling: Tiling,
    x: Tensor,
    weight: Tensor,
    *,
    gain: Tensor | None = None,
    eps: float = 0.0,
    residual: Tensor | None = None,
    gated: bool = False,
    dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """x [1, K], normalised first where a gain is given, times weight [N, K] → [1, N].

    gated: the weight's first half are gates of its second → silu(gate) · up [1, N / 2]. residual
    [1, N]: is added to in place and returned. Results are rounded to bfloat16 whatever the dtype.
    """
    n, k = len(weight) // (2 if gated else 1), weight.shape[1]
    out = x.new_empty(1, n, dtype=dtype) if residual is None else residual
    _row[(triton.cdiv(n, tiling.n),)](
        x,
        weight,
        x if gain is None else gain,
        out if residual is None else residual,
        out,
        eps,
        N=n,
        K=k,
        BLOCK_N=tiling.n,
        BLOCK_K=tiling.k,
        STAGES=tiling.stages,
        NORM=gain is not None,
        GATED=gated,
        RESIDUAL=residual is not None,
        num_warps=tiling.warps,
    )
    return out


def batch_product(
    tiling: Tiling,
    x: Tensor,
    weight: Tensor,
    *,
    residual: Tensor | None = None,
    gated: bool = False,
    dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """As `row_product` for up to `MOST_ROWS` rows, without the norm."""
    n_rows = len(x)
    n, k = len(weight) // (2 if gated else 1), weight.shape[1]
    out = x.new_empty(n_rows, n, dtype=dtype) if residual is None else residual
    _rows[(triton.cdiv(n, tiling.n),)](
        x,
        weight,
        out if residual is None else residual,
        out,
        n_rows,
        N=n,
        K=k,
        BLOCK_M=max(_LEAST_ROWS, triton.next_power_of_2(n_rows)),
        BLOCK_N=tiling.n,
        BLOCK_K=tiling.k,
        GATED=gated,
        RESIDUAL=residual is not None,
        num_warps=tiling.warps,
        num_stages=tiling.stages,
    )
    return out
