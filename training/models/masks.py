# pyright: basic
"""Flow's encoder and estimator with block-causal attention, for training alone.

Serving has the same attention through its caches. The blocks are the served modules; only the
attention is implemented again, with a mask.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.stepaudio.vocoder.flow.conformer import (
    ConformerBlock,
    ConformerEncoder,
    RelativeAttention,
    _distance_to_key,
    relative_positions,
)
from pipeline.stepaudio.vocoder.flow.dit import Attention, Block, Estimator, Modulation, _modulate


def block_mask(
    starts: Tensor, n_positions: int, prompt: int = 0, recent: int | None = None
) -> Tensor:
    """Blocks begin at `starts` (ascending, first 0) → bool [T, T].

    True where a query may see a key.

    recent: positions before its own block that a query sees, besides the first `prompt` ones; None:
    the whole past.
    """
    position = torch.arange(n_positions)
    block = torch.bucketize(position, starts, right=True)
    visible = block[:, None] >= block[None]
    if recent is not None:
        own_start = starts[block - 1]
        near = position[None] >= (own_start - recent)[:, None]
        visible &= near | (position[None] < prompt)
    return visible


def encode(encoder: ConformerEncoder, x: Tensor, mask: Tensor | None) -> Tensor:
    """As `encoder(x)[0]`; mask: bool [B, T, T] at 25 Hz. x: [B, T, D] → [B, 2T, D]."""
    n_ahead = encoder.pre_lookahead_layer.n_ahead
    x = F.pad(encoder.embed(x), (0, 0, 0, n_ahead))
    x, _ = encoder.pre_lookahead_layer(x, None)
    x = _blocks(encoder.encoders, x, mask, encoder.width)
    x, _ = encoder.up_layer(x, None)
    x = encoder.up_embed(x)
    if mask is not None:
        stride = encoder.up_layer.stride
        mask = mask.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
    return encoder.after_norm(_blocks(encoder.up_encoders, x, mask, encoder.width))


def estimate(
    estimator: Estimator, x: Tensor, modulation: Modulation, mask: Tensor | None
) -> Tensor:
    """As `estimator(x, modulation)[0]` with a time step per item.

    x: [B, C, T]; modulation: blocks [depth, 9, B, 1, D], final [2, B, 1, D]; mask: bool [B, T, T]
    at 50 Hz.
    """
    x = estimator.in_proj(x.transpose(1, 2))
    for i, one in enumerate(estimator.blocks):
        block = cast("Block", one)
        attn, mlp, conv = modulation.blocks[i].unflatten(0, (3, 3))
        x = x + attn[2] * _attend(block.attn, _modulate(x, attn), mask)
        x = x + conv[2] * block.conv(_modulate(x, conv), None)[0]
        x = x + mlp[2] * block.mlp(_modulate(x, mlp))
    return estimator.final_layer(x, modulation.final).transpose(1, 2)


def batched_modulation(estimator: Estimator, times: Tensor) -> Modulation:
    """Time steps [B] → the modulation for `estimate`."""
    embedded = estimator.t_embedder(times)
    blocks = torch.stack(
        [one.get_submodule("adaLN_modulation")(embedded) for one in estimator.blocks]
    )
    blocks = blocks.unflatten(-1, (-1, estimator.width))  # [depth, B, 9, D]
    final = estimator.final_layer.adaLN_modulation(embedded).unflatten(-1, (-1, estimator.width))
    return Modulation(blocks.transpose(1, 2)[:, :, :, None], final.transpose(0, 1)[:, :, None])


def _blocks(blocks: torch.nn.ModuleList, x: Tensor, mask: Tensor | None, width: int) -> Tensor:
    positions = relative_positions(x.shape[1], x.shape[1], x, width)
    for one in blocks:
        block = cast("ConformerBlock", one)
        x = x + _attend_relative(block.self_attn, block.norm_mha(x), positions, mask)
        x = x + block.feed_forward(block.norm_ff(x))
    return x


def _attend_relative(
    attention: RelativeAttention, x: Tensor, positions: Tensor, mask: Tensor | None
) -> Tensor:
    q, k, v = (
        attention._heads(f(x)) for f in (attention.linear_q, attention.linear_k, attention.linear_v)
    )
    by_distance = (q + attention.pos_bias_v[:, None]) @ attention._heads(
        attention.linear_pos(positions)
    ).mT
    bias = _distance_to_key(by_distance, k.shape[2])
    content = (q + attention.pos_bias_u[:, None]) @ k.mT
    return attention.linear_out(_mixed((content + bias) / math.sqrt(attention.head_width), v, mask))


def _attend(attention: Attention, x: Tensor, mask: Tensor | None) -> Tensor:
    q = attention.q_norm(attention._heads(attention.to_q(x)))
    k = attention.k_norm(attention._heads(attention.to_k(x)))
    v = attention._heads(attention.to_v(x))
    return attention.proj(_mixed(q @ k.mT / math.sqrt(attention.head_width), v, mask))


def _mixed(scores: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """scores [B, H, T, T], values [B, H, T, C] → [B, T, H·C]"""
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
