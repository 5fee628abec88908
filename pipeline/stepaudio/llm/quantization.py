# pyright: basic
"""Weights in 8 and 4 bits: rounding, products with them, and the packed layout of AWQ checkpoints.

Symmetric, weights only. Products run in bfloat16 in PyTorch's own kernels, which read the packed
weights and beat bfloat16 weights where memory bandwidth is the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import CheckpointError
from pipeline.stepaudio.llm.projection import Projection

GROUP_SIZES = (128, 64, 32)  # of int4, input channels that share a scale; the kernels know these
_INT4_MAX = 7
_INT4_ZERO = 8  # stored values are 0 … 15
_INT8_MAX = 127
_ROW_MULTIPLE = 64  # the int4 kernels want whole blocks of output rows
_INNER_K_TILES = 8
_WIDE_ROWS = 32  # with more rows CUDA's int8 kernel, which reads the weight per row, is slower
PER_WORD = 8  # int4 values in an int32 of the packed layout


@dataclass(frozen=True, slots=True, eq=False)
class Int4Weight:
    """A weight [N, K] in 4 bits, in the checkpoint's layout."""

    words: Tensor
    """int32 (N, K / 8), see `unpack_words`."""
    scales: Tensor
    """float (N, K / group)."""

    @property
    def group_size(self) -> int:
        """Input channels that share a scale."""
        return self.words.shape[1] * PER_WORD // self.scales.shape[1]

    def dequantized(self) -> Tensor:
        """float32 (N, K)."""
        scales = self.scales.float().repeat_interleave(self.group_size, 1)
        return unpack_words(self.words) * scales


def quantize_int4(weight: Tensor) -> Int4Weight:
    """Round to 4 bits, symmetric, groups of 128 inputs where K allows, else 64 or 32.

    Raises CheckpointError when K is no multiple of 32.
    """
    rows, width = weight.shape
    size = next((size for size in GROUP_SIZES if width % size == 0), None)
    if size is None:
        raise CheckpointError(f"a layer {width} wide cannot be held in int4 (multiples of 32 can)")
    grouped = weight.float().view(rows, -1, size)
    scales = (grouped.abs().amax(-1) / _INT4_MAX).clamp(min=torch.finfo(torch.float32).tiny)
    values = (grouped / scales[..., None]).round().clamp(-_INT4_MAX, _INT4_MAX)
    return Int4Weight(pack_words(values.view(rows, width).int()), scales)


def pack_int4(weight: Int4Weight) -> Projection:
    """The product with a weight in 4 bits; the output has the input's dtype."""
    rows, size = len(weight.words), weight.group_size
    pad = -rows % _ROW_MULTIPLE
    values = functional.pad(
        unpack_words(weight.words) + _INT4_ZERO, (0, 0, 0, pad), value=_INT4_ZERO
    )
    scales = functional.pad(weight.scales.float(), (0, 0, 0, pad), value=1.0).T
    bounds = torch.stack([scales, torch.zeros_like(scales)], -1).contiguous().bfloat16()
    if values.device.type == "cpu":
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1)
        product = torch.ops.aten._weight_int4pack_mm_for_cpu
    else:
        halves = (values[:, ::2] << 4 | values[:, 1::2]).to(torch.uint8)
        packed = torch.ops.aten._convert_weight_to_int4pack(halves, _INNER_K_TILES)
        product = torch.ops.aten._weight_int4pack_mm

    def int4(x: Tensor) -> Tensor:
        return product(x.bfloat16(), packed, size, bounds)[:, :rows].to(x.dtype)

    return Projection(int4, packed.nbytes + bounds.nbytes)


def pack_quantized(weights: Sequence[Tensor | Int4Weight], quantization: str) -> Projection:
    """One product with several weights, their outputs side by side, in int8 or int4.

    A weight that is in 4 bits already is not quantized again. Raises CheckpointError.
    """
    if quantization == "int8":
        return pack_int8(torch.cat([w for w in weights if isinstance(w, Tensor)]))
    held = [w if isinstance(w, Int4Weight) else quantize_int4(w) for w in weights]
    words, scales = torch.cat([w.words for w in held]), torch.cat([w.scales for w in held])
    return pack_int4(Int4Weight(words, scales))


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round to 8 bits, symmetric → int8 (N, K) and a scale for each output row, bfloat16 (N,)."""
    wide = weight.float()
    scales = (wide.abs().amax(1) / _INT8_MAX).clamp(min=torch.finfo(torch.float32).tiny)
    return (wide / scales[:, None]).round().to(torch.int8), scales.bfloat16()


def pack_int8(weight: Tensor) -> Projection:
    """The product with a weight in 8 bits; the output has the input's dtype."""
    values, scales = quantize_int8(weight)

    def int8(x: Tensor) -> Tensor:
        if x.is_cuda and len(x) > _WIDE_ROWS:
            return int8_wide(x, values, scales)
        return torch.ops.aten._weight_int8pack_mm(x.bfloat16(), values, scales).to(x.dtype)

    return Projection(int8, values.nbytes + scales.nbytes)


def int8_wide(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """x [M, K] times int8 values [N, K], output rows scaled, for the many rows of a prefill."""
    return (functional.linear(x.bfloat16(), values.bfloat16()) * scales).to(x.dtype)


def unpack_words(words: Tensor) -> Tensor:
    """compressed-tensors' `weight_packed` int32 (N, K / 8) → int32 (N, K), −8 … 7.

    Eight values a word, the first in the lowest bits, each stored plus 8.
    """
    shifts = torch.arange(0, 32, 32 // PER_WORD, dtype=torch.int32, device=words.device)
    return (words[..., None] >> shifts & 0xF).flatten(1) - _INT4_ZERO


def pack_words(values: Tensor) -> Tensor:
    """The inverse of `unpack_words` for K a multiple of 8."""
    shifts = torch.arange(0, 32, 32 // PER_WORD, device=values.device)
    words = ((values.long() + _INT4_ZERO).unflatten(1, (-1, PER_WORD)) << shifts).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).int()
