# pyright: basic
"""The estimator's Euler step as a CPU likes it: workspace and views made once a chunk, few passes.

Computes what `dit` and the solver in `flow` do, guidance and step included, within rounding. What a
step costs beyond its arithmetic does not shrink with the chunk, so streams pay it more often than
whole utterances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.onednn import has_onednn
from pipeline.stepaudio.vocoder.flow.dit import (
    CONV_KERNEL,
    N_PAST,
    NORM_EPS,
    Attention,
    Block,
    Estimator,
    Modulation,
    with_ones,
)

CONVOLUTIONS = 2  # of a block
LARGEST_SCORE = 60.0  # below it exponentials need no largest score taken off: no sum overflows
SCORES = 2**19  # of one product, at most: they stay in a core's cache until they are used
GELU_LINEAR = 2 * math.sqrt(2 / math.pi)  # of tanh's argument, twice: 1 + tanh(u) = 2 σ(2u)
GELU_CUBIC = GELU_LINEAR * 0.044715


class _Product:
    """Rows times a layer's weight, with its bias, into a given tensor."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self._turned, self._bias = weight, weight.T, bias

    @classmethod
    def of(cls, layer: nn.Module) -> _Product:
        layer = cast("nn.Linear", layer)
        return cls(layer.weight.detach(), layer.bias.detach())

    @classmethod
    def of_conv(cls, layer: nn.Module) -> _Product:
        """[D', D, kernel]: with the `kernel` frames that an output sees side by side."""
        conv = cast("nn.Conv1d", layer)
        assert conv.bias is not None
        weight = conv.weight.detach().permute(0, 2, 1).flatten(1).contiguous()
        return cls(weight, conv.bias.detach())

    def into(self, out: Tensor, x: Tensor) -> None:
        """x: [N, D] → out [N, D']."""
        torch.addmm(self._bias, x, self._turned, out=out)


class _Gelu:
    """A linear layer and GELU by tanh, in one kernel where oneDNN is there."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer, self._bias = layer, layer.bias.detach()
        self._packed: Tensor | None = None
        if has_onednn():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
            self._linear = torch.ops.mkldnn._linear_pointwise.default

    @property
    def packed_bytes(self) -> int:
        return 0 if self._packed is None else self._layer.weight.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is not None:
            return self._linear(x, self._packed, self._bias, "gelu", [], "tanh")
        x = F.linear(x, self._layer.weight, self._bias)
        gate = torch.addcmul(x.new_tensor(GELU_LINEAR), x, x, value=GELU_CUBIC)
        return x.mul_(gate.mul_(x).sigmoid_())


def _centred(layer: nn.Linear, heads: int) -> tuple[Tensor, Tensor]:
    """Weight and bias that give what `layer` gives less its mean over each head."""
    weight, bias = (
        part.detach().double().unflatten(0, (heads, -1)) for part in (layer.weight, layer.bias)
    )
    weight = weight - weight.mean(dim=1, keepdim=True)
    bias = bias - bias.mean(dim=1, keepdim=True)
    return weight.flatten(0, 1).float(), bias.flatten(0, 1).float()


@dataclass(frozen=True, slots=True, eq=False)
class _Heads:
    """Queries and keys of a block's heads, and whether their scores are known to be small.

    Queries have the scale of attention in them.
    """

    q_gain: Tensor
    q_bias: Tensor
    k_gain: Tensor
    k_bias: Tensor
    eps: float
    are_small: bool

    @classmethod
    def of(cls, attn: Attention) -> _Heads:
        scale = attn.head_width**-0.5
        q, k = ((n.weight.detach(), n.bias.detach()) for n in (attn.q_norm, attn.k_norm))
        longest = [float(g.abs().max()) * attn.head_width**0.5 + float(b.norm()) for g, b in (q, k)]
        are_small = scale * longest[0] * longest[1] <= LARGEST_SCORE
        assert attn.q_norm.eps == attn.k_norm.eps
        return cls(q[0] * scale, q[1] * scale, *k, attn.q_norm.eps, are_small)


class _CpuBlock:
    """`dit.Block` in a `Workspace`."""

    def __init__(self, block: Block) -> None:
        attn, conv = block.attn, block.conv.block
        self.heads, self.head_width = attn.heads, attn.head_width
        parts = [_centred(attn.to_q, attn.heads), _centred(attn.to_k, attn.heads)]
        parts.append((attn.to_v.weight.detach(), attn.to_v.bias.detach()))
        self._qkv = _Product(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        self._heads = _Heads.of(attn)
        self._proj = _Product.of(attn.proj)
        self._conv_in, self._conv_out = _Product.of_conv(conv["1"]), _Product.of_conv(conv["6"])
        self._conv_norm = cast("nn.LayerNorm", conv["3"])
        self._fc1, self._fc2 = _Gelu(block.mlp.fc1), _Product.of(block.mlp.fc2)

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that are copies."""
        copies = (self._qkv, self._conv_in, self._conv_out)
        return sum(product.weight.nbytes for product in copies) + self._fc1.packed_bytes

    def __call__(self, work: Workspace, rows: Sequence[Tensor], past: _Past, conv: _Conv) -> None:
        """Moves `work.hidden` on by one block. rows: of the modulation, nine [D]."""
        x, width = work.hidden, work.hidden.shape[1:]
        attn, mlp, convolution = rows[:3], rows[3:6], rows[6:]  # each: shift, scale, gate
        self._qkv.into(work.qkv, torch.layer_norm(x, width, attn[1], attn[0], NORM_EPS))
        self._attend(work, past)
        self._proj.into(work.update, work.attended)
        x.addcmul_(work.update, attn[2])
        modulated = torch.layer_norm(x, width, convolution[1], convolution[0], NORM_EPS)
        self._convolve(work, modulated, conv)
        x.addcmul_(work.update, convolution[2])
        inner = self._fc1(torch.layer_norm(x, width, mlp[1], mlp[0], NORM_EPS))
        self._fc2.into(work.update, inner)
        x.addcmul_(work.update, mlp[2])

    def _attend(self, work: Workspace, past: _Past) -> None:
        """`work.qkv` → `work.attended`; the chunk's keys and values go behind those of its past."""
        heads = self._heads
        normed = torch.rms_norm(work.raw, work.raw.shape[3:], None, heads.eps)
        q, k = normed.chunk(2, dim=2)
        torch.addcmul(heads.q_bias, q, heads.q_gain, out=work.queries)
        torch.addcmul(heads.k_bias, k, heads.k_gain, out=past.new_keys)
        past.new_values.copy_(work.new_values)
        if not heads.are_small:
            keys, values = past.keys.mT[None], past.values[None]
            work.out.copy_(F.scaled_dot_product_attention(work.q[None], keys, values, scale=1.0)[0])
            work.sums.fill_(1.0)
        else:
            for part in work.parts:
                torch.bmm(part.q, past.keys, out=part.scores)
                part.scores.exp_()
                torch.sum(part.scores, -1, keepdim=True, out=part.sums)
                torch.bmm(part.scores, past.values, out=part.out)
        torch.div(work.out_by_row, work.sums_by_row, out=work.attended_by_row)

    def _convolve(self, work: Workspace, x: Tensor, conv: _Conv) -> None:
        """x: [2T, D] → `work.update`."""
        conv.first.copy_(x.view_as(conv.first))
        work.windows_by_row.copy_(conv.first_windows)
        self._conv_in.into(work.update, work.windows)
        norm = self._conv_norm
        x = torch.layer_norm(work.update, work.update.shape[1:], norm.weight, norm.bias, norm.eps)
        _mish(x.view_as(conv.second), conv.second)
        work.windows_by_row.copy_(conv.second_windows)
        self._conv_out.into(work.update, work.windows)


def _mish(x: Tensor, out: Tensor) -> None:
    """x tanh(log(1 + eˣ)) with one exponential, x - 2x / (eˣ(eˣ + 2) + 2); it may be infinite."""
    power = x.exp()
    torch.addcdiv(x, x, (power + 2).mul_(power).add_(2), value=-2, out=out)


@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """A block's keys and values at one step, views of a slab that end with the chunk's own.

    keys: [2H, C, L]; values: [2H, L, C]; new_keys, new_values: [2, T, H, C], their last T.
    """

    keys: Tensor
    values: Tensor
    new_keys: Tensor
    new_values: Tensor

    @classmethod
    def of(cls, pair: Tensor, n_new: int) -> _Past:
        """pair: [2, 2, H, L, C], keys and values."""
        _, rows, heads, n_keys, width = pair.shape
        keys, values = pair.view(2, rows * heads, n_keys, width)
        new_keys, new_values = pair[:, :, :, n_keys - n_new :].transpose(2, 3)
        return cls(keys.mT, values, new_keys, new_values)


@dataclass(frozen=True, slots=True, eq=False)
class _Conv:
    """Inputs of a block's two convolutions, views of a chunk's.

    first, second: [2, T, D], to be written; their windows: [2, T, kernel * D], what each frame's
    output sees.
    """

    first: Tensor
    first_windows: Tensor
    second: Tensor
    second_windows: Tensor

    @classmethod
    def of(cls, pair: Tensor) -> _Conv:
        """pair: [2, 2, N_PAST + T, D], contiguous."""
        rows, n_inputs, width = pair.shape[1:]
        sizes = (rows, n_inputs - N_PAST, CONV_KERNEL * width)
        strides = (n_inputs * width, width, 1)
        first, second = ((x[:, N_PAST:], x.as_strided(sizes, strides)) for x in pair)
        return cls(*first, *second)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some of a chunk's queries: q, out [2H, t, C], scores [2H, t, L], sums [2H, t, 1]."""

    q: Tensor
    scores: Tensor
    sums: Tensor
    out: Tensor


class Workspace:
    """What a chunk's T frames of one stream are computed in, L keys in sight.

    x: [1, T, M], the noisy mel, moved on step by step. shared: [2, T, D], what the input projection
    makes of all that the steps share, guided and unguided row. conv: [blocks, 2, 2, N_PAST + T, D],
    inputs of both convolutions; the first N_PAST are to be there before a step.
    """

    def __init__(self, x: Tensor, shared: Tensor, blocks: Sequence[_CpuBlock], n_keys: int) -> None:
        new, (rows, n_new, width) = x.new_empty, shared.shape
        n, heads, head_width = rows * n_new, blocks[0].heads, blocks[0].head_width
        self.x, self.shared = x, shared
        self.conv = new(len(blocks), CONVOLUTIONS, rows, N_PAST + n_new, width)
        self.convs = [_Conv.of(pair) for pair in self.conv]
        self.hidden, self.update = new(n, width), new(n, width)
        self.windows = new(n, CONV_KERNEL * width)
        self.windows_by_row = self.windows.view(rows, n_new, -1)
        self.qkv = new(n, 3 * heads * head_width)
        by_head = self.qkv.view(rows, n_new, 3 * heads, head_width)
        self.raw, self.new_values = by_head[:, :, : 2 * heads], by_head[:, :, 2 * heads :]
        self.q, self.out = new(2, rows * heads, n_new, head_width)
        self.queries = self.q.view(rows, heads, n_new, head_width).transpose(1, 2)
        self.sums = new(rows * heads, n_new, 1)
        self.out_by_row = self.out.view(rows, heads, n_new, head_width)
        self.sums_by_row = self.sums.view(rows, heads, n_new, 1)
        self.attended = new(n, heads * head_width)
        attended = self.attended.view(rows, n_new, heads, head_width)
        self.attended_by_row = attended.transpose(1, 2)
        self.parts = list(self._divided(n_keys))

    def _divided(self, n_keys: int) -> Iterator[_Part]:
        """Even parts of at most SCORES scores, one after another in the same memory."""
        heads, n_new, _ = self.q.shape
        n_parts = -(-heads * n_new * n_keys // SCORES)
        size = -(-n_new // n_parts)
        memory = self.q.new_empty(heads * size * n_keys)
        for start in range(0, n_new, size):
            q, sums, out = (t[:, start : start + size] for t in (self.q, self.sums, self.out))
            scores = memory[: heads * q.shape[1] * n_keys].view(heads, q.shape[1], n_keys)
            yield _Part(q, scores, sums, out)


@dataclass(frozen=True, slots=True, eq=False)
class StepRows:
    """What one Euler step does: nine rows [D] a block, the final two, and the step's size."""

    blocks: Sequence[Sequence[Tensor]]
    shift: Tensor
    scale: Tensor
    size: float

    @classmethod
    def of(cls, modulation: Modulation, size: float) -> StepRows:
        blocks, (shift, scale) = with_ones(modulation)
        return cls([block.unbind(0) for block in blocks], shift, scale, size)

    @property
    def n_bytes(self) -> int:
        """Of all rows."""
        rows = [row for block in self.blocks for row in block]
        return sum(row.nbytes for row in (*rows, self.shift, self.scale))


class CpuEstimator:
    """One Euler step of an `Estimator` with guidance; its weights are read, some of them copied."""

    def __init__(self, estimator: Estimator, guidance: float, n_mels: int) -> None:
        self._blocks = [_CpuBlock(cast("Block", block)) for block in estimator.blocks]
        projection, last = estimator.in_proj, estimator.final_layer.linear
        self._mel_weight = projection.weight.detach()[:, :n_mels].contiguous()
        self._shared_weight = projection.weight.detach()[:, n_mels:].contiguous()
        self._bias = projection.bias.detach()
        self._out_weight, self._out_bias = last.weight.detach(), last.bias.detach()
        self._guidance = guidance

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that are held here a second time."""
        copies = self._mel_weight.nbytes + self._shared_weight.nbytes
        return copies + sum(block.packed_bytes for block in self._blocks)

    def workspace(self, noise: Tensor, condition: Tensor, n_keys: int) -> Workspace:
        """For a chunk: noise [1, M, T], condition [1, 3M, T]; n_keys: in sight, its own included.

        The unguided row sees zeros in the condition's place.
        """
        guided = F.linear(condition.transpose(1, 2), self._shared_weight, self._bias)
        shared = torch.cat((guided, self._bias.expand_as(guided)))
        return Workspace(noise.transpose(1, 2).contiguous(), shared, self._blocks, n_keys)

    def step(self, work: Workspace, keys: Tensor, rows: StepRows) -> None:
        """Moves `work.x` on by one step. keys: [blocks, 2, 2, H, L, C], keys and values.

        The last T of them are written, the others are the past's.
        """
        x, shared = work.x, work.shared
        n_rows, n_new, width = shared.shape
        torch.add(shared, F.linear(x, self._mel_weight), out=work.hidden.view(shared.shape))
        each = zip(self._blocks, rows.blocks, keys, work.convs, strict=True)
        for block, modulation, pair, conv in each:
            block(work, modulation, _Past.of(pair, n_new), conv)
        final = torch.layer_norm(work.hidden, (width,), rows.scale, rows.shift, NORM_EPS)
        guided, unguided = final.view(n_rows, n_new, width).split(1)
        mixed = torch.lerp(unguided, guided, 1 + self._guidance)
        x.add_(F.linear(mixed, self._out_weight, self._out_bias), alpha=rows.size)
