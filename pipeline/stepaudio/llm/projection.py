# pyright: basic
"""Matrix products of a layer, packed for the device.

A new number format is added here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.stepaudio.onednn import has_onednn


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A product of rows with a weight: [M, K] → [M, N], `scale` times what `product` gives.

    The scale is a power of two, so a caller may apply it wherever it multiplies anyway.
    """

    product: Callable[[Tensor], Tensor]
    n_bytes: int
    """Bytes of the stored weight."""
    scale: float = 1.0
    weight: Tensor | None = None
    """The weight [N, K], if it is stored unchanged."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x) * self.scale


_ROWS = 120  # rows that FBGEMM takes at a time
_HALF_TOP = 14  # exponent that a weight's largest number gets in 16 bits, where 15 is the last


def pack(weight: Tensor) -> Projection:
    """The product with `weight` [N, K].

    On a CPU in float32 the weight is reordered once for kernels whose rows have the same bits in
    any batch size and position (MKL's do not): FBGEMM's where 16 bits hold the weight without loss,
    as for weights trained in bfloat16, else oneDNN's.
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        if _has_fbgemm() and (halved := _half_exactly(weight)) is not None:
            return _pack_half(*halved)
        if has_onednn():
            return _pack_onednn(weight)

    def plain(x: Tensor) -> Tensor:
        return functional.linear(x, weight)

    return Projection(plain, weight.nbytes, weight=weight)


def _half_exactly(weight: Tensor) -> tuple[Tensor, float] | None:
    """(weight times a power of two, its inverse) where float16 holds each product, else None."""
    top = weight.abs().max().item()
    if not 0 < top < math.inf:
        return None
    scale = 2.0 ** (_HALF_TOP - math.frexp(top)[1] + 1)
    scaled = weight * scale
    return (scaled, 1 / scale) if torch.equal(scaled.half().float(), scaled) else None


def _pack_half(weight: Tensor, scale: float) -> Projection:
    """float32 rows, sums and results; the weight, held in 16 bits, costs half the bandwidth."""
    if torch.get_num_threads() > 1:
        threaded = torch.ops.quantized.linear_dynamic_fp16
        held = torch.ops.quantized.linear_prepack_fp16(weight, None)

        def half_threaded(x: Tensor) -> Tensor:
            return threaded(x, held)

        return Projection(_row_exact(half_threaded), weight.nbytes // 2, scale)
    # The same kernels with less overhead, on one thread.
    linear = torch.fbgemm_linear_fp16_weight_fp32_activation
    with warnings.catch_warnings():  # deprecated: once it is gone, `_has_fbgemm` says so
        warnings.simplefilter("ignore")
        packed = torch.fbgemm_pack_gemm_matrix_fp16(weight)
        linear(weight[:1], packed, None)  # the kernel warns at its first call

    def half(x: Tensor) -> Tensor:
        return linear(x, packed, None)

    return Projection(_row_exact(half), weight.nbytes // 2, scale)


def _row_exact(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A product of FBGEMM, padded by one or two rows where the order of sums would differ.

    With AVX2 it differs when one or two rows are left over from its blocks; with AVX-512 never.
    """
    exact = _exact_remainders()
    if len(exact) > _ROWS:
        return product
    missing = [next(n for n in exact if n >= left) - left for left in range(_ROWS)]

    kept: dict[int, tuple[Tensor, Tensor]] = {}  # input with padding rows, and the output

    @wraps(product)
    def padded(x: Tensor) -> Tensor:
        n_rows = len(x)
        more = missing[n_rows % _ROWS]
        if not more:
            return product(x)
        if n_rows not in kept:
            longer = x.new_zeros(n_rows + more, x.shape[1])
            kept[n_rows] = longer[:n_rows], longer
        given, longer = kept[n_rows]
        given.copy_(x)
        return product(longer)[:n_rows]

    return padded


@cache
def _exact_remainders() -> tuple[int, ...]:
    """0, and the numbers of rows up to `_ROWS` with the same bits as `_ROWS` rows; measured."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 256, generator=generator) for n in (_ROWS, 64))
    held = torch.ops.quantized.linear_prepack_fp16(weight, None)
    product = torch.ops.quantized.linear_dynamic_fp16
    whole = product(x, held)
    sizes = range(1, _ROWS + 1)
    return (0, *(n for n in sizes if torch.equal(product(x[:n], held), whole[:n])))


def _pack_onednn(weight: Tensor) -> Projection:
    """2 to 5 times faster than MKL at 4 rows and more."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    linear = torch.ops.mkldnn._linear_pointwise.default

    def onednn(x: Tensor) -> Tensor:
        return linear(x, packed, None, "none", [], "")

    return Projection(onednn, weight.nbytes)


def _has_fbgemm() -> bool:
    return "fbgemm" in torch.backends.quantized.supported_engines and hasattr(
        torch, "fbgemm_linear_fp16_weight_fp32_activation"
    )
