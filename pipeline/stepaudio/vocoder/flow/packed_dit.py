# pyright: basic
"""The estimator's Euler step on static tensors, in as few kernels as plain torch allows.

Computes what `dit` and the solver in `flow` do, guidance and step included, within rounding. Knows
no stream: who fills the tensors says what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.vocoder.flow.dit import (
    BLOCK_MODULATIONS,
    CONV_KERNEL,
    NORM_EPS,
    Block,
    Estimator,
    Modulation,
)

N_PAST = CONV_KERNEL - 1  # inputs that a convolution needs of the frames before
SCALE_ROWS = (1, 4, 7)  # of a block's modulation: attention's, feed-forward's, convolution's


@dataclass(frozen=True, slots=True)
class StepTensors:
    """Static tensors of one step of B streams, L keys of which the last T are the step's frames.

    Guided rows of all streams come first, then the unguided ones.
    x: [B, T, M], the noisy mel, moved on by a step. hidden: [2B, T, D], what the input projection
    makes of all that the steps of a chunk share, see `PackedEstimator.project`. bias: [2B, 1, 1,
    L], 0 for keys that exist, -inf for others; None when all do. keys: [blocks, 2, 2B, H, L, C],
    keys and values; the past is there before the step, the last T are written by it. conv: [blocks,
    2, 2B, N_PAST + T, D], inputs of both convolutions; the first N_PAST are there before.
    modulation: [blocks * 9 + 3, D], see `PackedEstimator.modulation`.
    """

    x: Tensor
    hidden: Tensor
    bias: Tensor | None
    keys: Tensor
    conv: Tensor
    modulation: Tensor


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> _Linear:
        return cls(layer.weight, layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def _joined(*layers: nn.Linear) -> _Linear:
    """One product for layers that read the same."""
    bias = torch.cat([layer.bias for layer in layers])
    return _Linear(torch.cat([layer.weight for layer in layers]), bias)


def _of_conv(layer: nn.Module) -> _Linear:
    """[D', D, kernel] as a product with the `kernel` frames that an output sees, side by side."""
    conv = cast("nn.Conv1d", layer)
    assert conv.bias is not None
    return _Linear(conv.weight.permute(0, 2, 1).flatten(1).contiguous(), conv.bias)


def _windows(x: Tensor) -> Tensor:
    """[B, N_PAST + T, D] → [B, T, kernel * D], a copy."""
    return x.unfold(1, CONV_KERNEL, 1).transpose(2, 3).flatten(2).contiguous()


class _PackedBlock:
    """`dit.Block` on static keys and inputs of convolutions."""

    def __init__(self, block: Block) -> None:
        attn, conv = block.attn, block.conv.block
        self._heads, self._head_width = attn.heads, attn.head_width
        self._qkv = _joined(attn.to_q, attn.to_k, attn.to_v)
        self._q_norm, self._k_norm = attn.q_norm, attn.k_norm
        self._proj = _Linear.of(attn.proj)
        self._conv_in, self._conv_out = _of_conv(conv["1"]), _of_conv(conv["6"])
        self._conv_norm = conv["3"]
        self._fc1, self._fc2 = _Linear.of(block.mlp.fc1), _Linear.of(block.mlp.fc2)

    @property
    def packed(self) -> tuple[Tensor, ...]:
        """Weights that are copies."""
        return (self._qkv.weight, self._conv_in.weight, self._conv_out.weight)

    def __call__(
        self, x: Tensor, modulation: Tensor, keys: Tensor, conv: Tensor, bias: Tensor | None
    ) -> Tensor:
        """x: [2B, T, D] → the same; modulation: [9, D]; the others are a block's of StepTensors."""
        attn, mlp, convolution = modulation.unflatten(0, (3, 3))
        x = torch.addcmul(x, self._attended(_modulated(x, attn), keys, bias), attn[2])
        x = torch.addcmul(x, self._convolved(_modulated(x, convolution), conv), convolution[2])
        hidden = F.gelu(self._fc1(_modulated(x, mlp)), approximate="tanh")
        return torch.addcmul(x, self._fc2(hidden), mlp[2])

    def _attended(self, x: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
        """The norm takes all heads at once, those of values too, whose result nobody reads."""
        n_heads, n_new = self._heads, x.shape[1]
        qkv = self._qkv(x).unflatten(-1, (3 * n_heads, self._head_width))  # [2B, T, 3H, C]
        normed = F.layer_norm(qkv, qkv.shape[-1:], eps=self._q_norm.eps)
        q = torch.addcmul(self._q_norm.bias, normed[:, :, :n_heads], self._q_norm.weight)
        k, v = (part[:, :, -n_new:].transpose(1, 2) for part in keys)  # [2B, T, H, C]
        new_keys = normed[:, :, n_heads : 2 * n_heads]
        torch.addcmul(self._k_norm.bias, new_keys, self._k_norm.weight, out=k)
        v.copy_(qkv[:, :, 2 * n_heads :])
        out = F.scaled_dot_product_attention(q.transpose(1, 2), keys[0], keys[1], attn_mask=bias)
        return self._proj(out.transpose(1, 2).flatten(2))

    def _convolved(self, x: Tensor, conv: Tensor) -> Tensor:
        first, second = conv
        first[:, N_PAST:] = x
        x = self._conv_in(_windows(first))
        x = self._conv_norm(x)
        torch.ops.aten.mish.out(x, out=second[:, N_PAST:])
        return self._conv_out(_windows(second))


def _modulated(x: Tensor, shift_scale: Tensor) -> Tensor:
    """LayerNorm, then shift (row 0) and scale (row 1, the one already added)."""
    return F.layer_norm(x, x.shape[-1:], shift_scale[1], shift_scale[0], NORM_EPS)


def with_ones(modulation: Modulation) -> tuple[Tensor, Tensor]:
    """Copies of the blocks' rows [depth, 9, D] and the final two; scales have the one added."""
    blocks, final = modulation.blocks.clone(), modulation.final.clone()
    blocks[:, SCALE_ROWS] += 1
    final[1] += 1
    return blocks, final


class PackedEstimator:
    """One Euler step of an `Estimator` with guidance; its weights are read, some of them copied."""

    def __init__(self, estimator: Estimator, guidance: float, n_mels: int) -> None:
        self._blocks = [_PackedBlock(cast("Block", block)) for block in estimator.blocks]
        projection = estimator.in_proj
        self._mel_weight = projection.weight[:, :n_mels].contiguous()
        self._shared = _Linear(projection.weight[:, n_mels:].contiguous(), projection.bias)
        self._out = _Linear.of(estimator.final_layer.linear)
        self._guidance = guidance

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that are held here a second time."""
        copies = [weight for block in self._blocks for weight in block.packed]
        return sum(t.nbytes for t in (*copies, self._mel_weight, self._shared.weight))

    @staticmethod
    def modulation(modulation: Modulation, size: float) -> Tensor:
        """[blocks * 9 + 3, D]: the blocks' rows, the final two, and the step's size.

        Scales have the one added that they are used with.
        """
        blocks, final = with_ones(modulation)
        return torch.cat((blocks.flatten(0, 1), final, torch.full_like(final[:1], size)))

    def project(self, condition: Tensor, hidden: Tensor) -> None:
        """Fill `StepTensors.hidden` from a condition [n, 3M, t]; what lies beyond sees zeros."""
        n, _, t = condition.shape
        hidden.copy_(self._shared.bias.expand_as(hidden))
        hidden[:n, :t] = self._shared(condition.transpose(1, 2))

    def step(self, tensors: StepTensors) -> Tensor:
        """One Euler step, in place: returns `tensors.x`."""
        x, modulation = tensors.x, tensors.modulation
        shared = tensors.hidden.unflatten(0, (2, len(x)))
        hidden = (shared + F.linear(x, self._mel_weight)).flatten(0, 1)
        for i, block in enumerate(self._blocks):
            rows = modulation[BLOCK_MODULATIONS * i : BLOCK_MODULATIONS * (i + 1)]
            hidden = block(hidden, rows, tensors.keys[i], tensors.conv[i], tensors.bias)
        shift, scale, size = modulation[-3:].unbind(0)
        final = F.layer_norm(hidden, hidden.shape[-1:], scale, shift, NORM_EPS)
        guided, unguided = final.chunk(2)
        velocity = self._out(torch.lerp(unguided, guided, 1 + self._guidance))
        return x.addcmul_(velocity, size[:1])
