# pyright: basic
"""The estimator's Euler step on a GPU: products in float16, all between them in a few kernels.

Computes what `dit` and the solver in `flow` do, guidance and step included. A float16 has the
mantissa of TF32, which the plain form multiplies in there; sums, norms and the hidden states stay
float32. Knows no stream: `StepTensors.numbers` say whose memory is read and written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.vocoder.flow.dit import (
    BLOCK_MODULATIONS,
    NORM_EPS,
    Block,
    Estimator,
    Modulation,
    with_ones,
)
from pipeline.stepaudio.vocoder.flow.kernels.attention import SlabAttention
from pipeline.stepaudio.vocoder.flow.kernels.rows import Rows

HALF = torch.float16
ATTENTION, FEED_FORWARD, CONVOLUTION = 0, 3, 6  # of a block's modulation: shift, scale, gate each
SHIFT, GATE = 0, 2


@dataclass(frozen=True, slots=True)
class StepTensors:
    """Static tensors of one step of B streams, T frames each.

    Guided rows of all streams come first, then the unguided ones.
    x: [B, T, M], the noisy mel, moved on by a step. hidden: [2B, T, D], what the input projection
    makes of all that the steps of a chunk share, see `HalfEstimator.project`. numbers: int64, the
    step, which goes on by one and from the last to the first, and each stream's Place.
    slab_anchor, conv_anchor: where the places count from.
    """

    x: Tensor
    hidden: Tensor
    numbers: Tensor
    slab_anchor: Tensor
    conv_anchor: Tensor


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Tensor
    bias: Tensor

    @classmethod
    def half(cls, *layers: nn.Linear) -> _Linear:
        """One product for layers that read the same."""
        weight = torch.cat([layer.weight for layer in layers])
        return cls(weight.to(HALF), torch.cat([layer.bias for layer in layers]).to(HALF))

    @classmethod
    def of_conv(cls, layer: nn.Module) -> _Linear:
        """[D', D, kernel] as a product with the `kernel` frames an output sees, side by side."""
        conv = cast("nn.Conv1d", layer)
        assert conv.bias is not None
        weight = conv.weight.permute(0, 2, 1).flatten(1)
        return cls(weight.to(HALF).contiguous(), conv.bias.to(HALF))

    @property
    def n_bytes(self) -> int:
        return self.weight.nbytes + self.bias.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _HalfBlock:
    """`dit.Block`, its products in float16."""

    def __init__(self, block: Block) -> None:
        attn, conv = block.attn, block.conv.block
        self._qkv = _Linear.half(attn.to_q, attn.to_k, attn.to_v)
        norms = (attn.q_norm, attn.k_norm)
        self._norms = tuple(tensor for norm in norms for tensor in (norm.weight, norm.bias))
        self._proj = _Linear.half(attn.proj)
        self._conv_in, self._conv_out = _Linear.of_conv(conv["1"]), _Linear.of_conv(conv["6"])
        self._conv_norm = cast("nn.LayerNorm", conv["3"])
        self._fc1, self._fc2 = _Linear.half(block.mlp.fc1), _Linear.half(block.mlp.fc2)

    @property
    def n_bytes(self) -> int:
        products = (self._qkv, self._proj, self._conv_in, self._conv_out, self._fc1, self._fc2)
        return sum(product.n_bytes for product in products)

    def __call__(
        self,
        hidden: Tensor,
        moved: Tensor | None,
        modulation: Tensor,
        index: int,
        rows: Rows,
        attention: SlabAttention,
    ) -> Tensor:
        """hidden: float32 [2B, T, D], in place, but for this block's last sum → what it adds.

        moved: what the block before adds, which its gate scales.
        """
        first = BLOCK_MODULATIONS * index
        gate_before = first - BLOCK_MODULATIONS + FEED_FORWARD + GATE
        y = rows.enter(hidden, moved, modulation, max(gate_before, 0), first + ATTENTION + SHIFT)
        moved = self._proj(attention(self._qkv(y), self._norms, index))
        gate, shift = first + ATTENTION + GATE, first + CONVOLUTION + SHIFT
        windows = rows.enter_windows(hidden, moved, modulation, gate, shift, index)
        norm = self._conv_norm
        windows = rows.between_convolutions(self._conv_in(windows), norm.weight, norm.bias, index)
        moved = self._conv_out(windows)
        gate, shift = first + CONVOLUTION + GATE, first + FEED_FORWARD + SHIFT
        y = rows.enter(hidden, moved, modulation, gate, shift)
        return self._fc2(F.gelu(self._fc1(y), approximate="tanh"))


class HalfEstimator:
    """One Euler step of an `Estimator` with guidance, its products in float16.

    modulations, step_sizes: of all steps, in order.
    """

    def __init__(
        self,
        estimator: Estimator,
        guidance: float,
        n_mels: int,
        modulations: Sequence[Modulation],
        step_sizes: Sequence[float],
    ) -> None:
        blocks = [cast("Block", block) for block in estimator.blocks]
        self._blocks = [_HalfBlock(block) for block in blocks]
        self._heads, self._head_width = blocks[0].attn.heads, blocks[0].attn.head_width
        projection = estimator.in_proj
        self._mel_weight = projection.weight[:, :n_mels].contiguous()
        self._shared = _Linear(projection.weight[:, n_mels:].contiguous(), projection.bias)
        out = estimator.final_layer.linear
        self._out, self._guidance = _Linear(out.weight, out.bias), guidance
        pairs = zip(modulations, step_sizes, strict=True)
        self._modulations = torch.stack([_modulation_rows(m, size) for m, size in pairs])

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that are held here a second time."""
        copies = (self._mel_weight, self._shared.weight, self._modulations)
        return sum(block.n_bytes for block in self._blocks) + sum(t.nbytes for t in copies)

    def project(self, condition: Tensor, hidden: Tensor) -> None:
        """Fill `StepTensors.hidden` from a condition [n, 3M, t]; what lies beyond sees zeros."""
        n, _, t = condition.shape
        hidden.copy_(self._shared.bias.expand_as(hidden))
        hidden[:n, :t] = self._shared(condition.transpose(1, 2))

    def step(self, tensors: StepTensors) -> Tensor:
        """One Euler step, in place: returns `tensors.x`."""
        x, step, n_frames = tensors.x, tensors.numbers[:1], tensors.x.shape[1]
        modulation = self._modulations.index_select(0, step)[0]
        rows = Rows(tensors.conv_anchor, tensors.numbers, n_frames, len(self._blocks))
        heads = (len(self._blocks), self._heads, self._head_width)
        attention = SlabAttention(tensors.slab_anchor, tensors.numbers, *heads)
        shared = tensors.hidden.unflatten(0, (2, len(x)))
        hidden = (shared + F.linear(x, self._mel_weight)).flatten(0, 1)
        moved: Tensor | None = None
        for i, block in enumerate(self._blocks):
            moved = block(hidden, moved, modulation, i, rows, attention)
        assert moved is not None
        gate, shift, scale, size = modulation[-4:].unbind(0)
        hidden = hidden + moved * gate
        final = F.layer_norm(hidden, hidden.shape[-1:], scale, shift, NORM_EPS)
        guided, unguided = final.chunk(2)
        velocity = self._out(torch.lerp(unguided, guided, 1 + self._guidance))
        step.add_(1).remainder_(len(self._modulations))
        return x.addcmul_(velocity, size[:1])


def _modulation_rows(modulation: Modulation, size: float) -> Tensor:
    """[blocks * 9 + 4, D]: the blocks' rows, the last gate again, the final two, the step's size.

    Scales have the one added that they are used with.
    """
    blocks, final = with_ones(modulation)
    last_gate = blocks[-1, FEED_FORWARD + GATE][None]
    return torch.cat((blocks.flatten(0, 1), last_gate, final, torch.full_like(final[:1], size)))
