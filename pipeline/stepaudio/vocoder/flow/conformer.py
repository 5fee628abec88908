# pyright: basic
"""The flow's encoder: token embeddings at 25 Hz → hidden states at 50 Hz.

One forward serves both modes: offline is one chunk without a cache, streaming passes the cache on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.config import EncoderConfig

BLOCK_NORM_EPS = 1e-12
LOOKAHEAD_KERNEL = 3  # of the lookahead layer's second convolution; the config tells the first's
MAX_WAVELENGTH = 10_000.0  # of the sinusoidal positions

KeyValue = tuple[Tensor, Tensor]  # keys and values, each [B, H, T, D / H], oldest first


@dataclass(frozen=True, slots=True)
class ConformerCache:
    """State from earlier chunks for the next one."""

    lookahead: Tensor
    """[B, D, 2], last outputs of the lookahead layer's first convolution."""
    upsample: Tensor
    """[B, D, 2 * stride], last inputs of the upsampling convolution."""
    row_blocks: tuple[KeyValue, ...]
    """Keys and values of every block so far, at 25 and 50 Hz."""
    frame_blocks: tuple[KeyValue, ...]
    """Keys and values of every block so far, at 25 and 50 Hz."""


@dataclass(frozen=True, slots=True)
class StackedCache:
    """A ConformerCache of one stream whose blocks lie in one tensor: it moves in few launches.

    lookahead, upsample: as there. rows, frames: [2 * blocks, 1, H, T, D / H], a block's keys, then
    its values.
    """

    lookahead: Tensor
    upsample: Tensor
    rows: Tensor
    frames: Tensor

    @classmethod
    def of(cls, cache: ConformerCache | StackedCache) -> StackedCache:
        """The same state, copied where it is not stacked yet."""
        if isinstance(cache, StackedCache):
            return cache
        rows, frames = (
            torch.stack([tensor for pair in blocks for tensor in pair])
            for blocks in (cache.row_blocks, cache.frame_blocks)
        )
        return cls(cache.lookahead, cache.upsample, rows, frames)

    @property
    def n_rows(self) -> int:
        """Rows that it holds."""
        return self.rows.shape[3]

    def by_block(self) -> ConformerCache:
        """The same state, as the encoder takes it; views."""
        rows, frames = (
            tuple(zip(stacked.unbind(0)[::2], stacked.unbind(0)[1::2], strict=True))
            for stacked in (self.rows, self.frames)
        )
        return ConformerCache(self.lookahead, self.upsample, rows, frames)


def relative_positions(n_query: int, n_key: int, like: Tensor, width: int) -> Tensor:
    """Sinusoids of query minus key positions, [n_key + n_query - 1, width].

    From n_key - 1 down to 1 - n_query: the last query stands on the last key, and only distances
    that occur are made.
    """
    distance = torch.arange(n_key - 1, -n_query, -1, device=like.device, dtype=torch.float32)
    exponent = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
    angle = distance[:, None] * torch.exp(exponent * -(math.log(MAX_WAVELENGTH) / width))
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).to(like.dtype)


class RelativeAttention(nn.Module):
    """Multi-head attention with Transformer-XL relative positions."""

    def __init__(self, width: int, heads: int, key_bias: bool) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width, bias=key_bias)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, self.head_width))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, self.head_width))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_width)).transpose(-3, -2)  # [..., H, T, D/H]

    def forward(
        self, x: Tensor, positions: Tensor, cache: KeyValue | None, visible: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """x: [B, T, D]; positions: [T + cached + T - 1, D]; visible: bool [B, cached + T].

        Returns [B, T, D] and all keys and values.
        """
        q, k, v = (self._heads(f(x)) for f in (self.linear_q, self.linear_k, self.linear_v))
        if cache is not None:
            k, v = torch.cat((cache[0], k), dim=2), torch.cat((cache[1], v), dim=2)
        by_distance = (q + self.pos_bias_v[:, None]) @ self._heads(self.linear_pos(positions)).mT
        bias = _distance_to_key(by_distance, k.shape[2]) / math.sqrt(self.head_width)
        if visible is not None:
            bias = bias.masked_fill(~visible[:, None, None], -math.inf)
        out = F.scaled_dot_product_attention(q + self.pos_bias_u[:, None], k, v, attn_mask=bias)
        return self.linear_out(out.transpose(1, 2).flatten(2)), (k, v)


def _distance_to_key(by_distance: Tensor, n_key: int) -> Tensor:
    """[B, H, T, distances] → [B, H, T, keys], without a copy.

    Query i takes distance column T - 1 - i + j for key j.
    """
    n_batch, n_head, n_query, n_distance = by_distance.shape
    per_head = n_query * n_distance
    return by_distance.contiguous().as_strided(
        (n_batch, n_head, n_query, n_key),
        (n_head * per_head, per_head, n_distance - 1, 1),
        n_query - 1,
    )


class FeedForward(nn.Module):
    """Two linear layers with swish between."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, units)
        self.w_2 = nn.Linear(units, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.silu(self.w_1(x)))


class ConformerBlock(nn.Module):
    """Pre-norm attention and feed-forward.

    This model's blocks have neither macaron nor convolution.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.output_size
        self.self_attn = RelativeAttention(width, config.attention_heads, config.key_bias)
        self.feed_forward = FeedForward(width, config.linear_units)
        self.norm_ff = nn.LayerNorm(width, eps=BLOCK_NORM_EPS)
        self.norm_mha = nn.LayerNorm(width, eps=BLOCK_NORM_EPS)

    def forward(
        self, x: Tensor, positions: Tensor, cache: KeyValue | None, visible: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        attended, new_cache = self.self_attn(self.norm_mha(x), positions, cache, visible)
        x = x + attended
        return x + self.feed_forward(self.norm_ff(x)), new_cache


class InputLayer(nn.Module):
    """Linear and LayerNorm, scaled by the square root of the width."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(n_in, width), nn.LayerNorm(width))
        self.scale = math.sqrt(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self.scale


class LookaheadLayer(nn.Module):
    """Mixes each row with the `n_ahead` rows after it and the two before.

    Its input is n_ahead rows longer than its output.
    """

    def __init__(self, width: int, n_ahead: int) -> None:
        super().__init__()
        self.n_ahead = n_ahead
        self.conv1 = nn.Conv1d(width, width, n_ahead + 1)
        self.conv2 = nn.Conv1d(width, width, LOOKAHEAD_KERNEL)

    def forward(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """x: [B, T + n_ahead, D] → [B, T, D] and the next cache [B, D, 2]."""
        ahead = F.leaky_relu(self.conv1(x.transpose(1, 2)))
        mixed = _with_past(ahead, cache, LOOKAHEAD_KERNEL - 1)
        out = self.conv2(mixed).transpose(1, 2) + x[:, : x.shape[1] - self.n_ahead]
        return out, mixed[..., -(LOOKAHEAD_KERNEL - 1) :].clone()  # a view would keep all alive


class UpsampleLayer(nn.Module):
    """Repeats every row `stride` times, then a causal convolution."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(width, width, 2 * stride + 1)

    def forward(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """x: [B, T, D] → [B, T * stride, D] and the next cache [B, D, 2 * stride]."""
        repeated = x.transpose(1, 2).repeat_interleave(self.stride, dim=2)
        padded = _with_past(repeated, cache, 2 * self.stride)
        return self.conv(padded).transpose(1, 2), padded[..., -2 * self.stride :].clone()


def _with_past(x: Tensor, past: Tensor | None, n_past: int) -> Tensor:
    """[B, C, T] with the `n_past` columns before it.

    Those are the cached ones, or zeros at an utterance's start.
    """
    return F.pad(x, (n_past, 0)) if past is None else torch.cat((past, x), dim=2)


class ConformerEncoder(nn.Module):
    """Upsampling conformer with lookahead."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.output_size
        self.width = width
        self.embed = InputLayer(config.input_size, width)
        self.pre_lookahead_layer = LookaheadLayer(width, config.pre_lookahead_len)
        self.encoders = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_blocks))
        self.up_layer = UpsampleLayer(width, config.up_stride)
        self.up_embed = InputLayer(config.input_size, width)
        self.up_encoders = nn.ModuleList(
            ConformerBlock(config) for _ in range(config.num_up_blocks)
        )
        self.after_norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        ahead: Tensor | None = None,
        cache: ConformerCache | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, ConformerCache]:
        """Encode one chunk, or a whole utterance when neither `ahead` nor `cache` is given.

        x: [B, T, D_in] rows to encode. ahead: [B, A, D_in] rows after them, at most as many as the
        lookahead; what lacks counts as the utterance's end. visible: bool [B, cached + T], which
        rows exist where sequences of several lengths are padded to one; None for all. Returns
        [B, T * stride, D] and the cache for the next chunk.
        """
        n_rows, n_ahead = x.shape[1], self.pre_lookahead_layer.n_ahead
        x = self.embed(x if ahead is None else torch.cat((x, ahead[:, :n_ahead]), dim=1))
        if visible is not None and ahead is None:  # behind an utterance's end there is nothing
            x = x * visible[:, visible.shape[1] - n_rows :, None]
        x = F.pad(x, (0, 0, 0, n_rows + n_ahead - x.shape[1]))
        x, lookahead = self.pre_lookahead_layer(x, cache and cache.lookahead)
        x, row_blocks = self._run(self.encoders, x, cache and cache.row_blocks, visible)
        x, upsample = self.up_layer(x, cache and cache.upsample)
        x = self.up_embed(x)
        if visible is not None:
            visible = visible.repeat_interleave(self.up_layer.stride, dim=1)
        x, frame_blocks = self._run(self.up_encoders, x, cache and cache.frame_blocks, visible)
        return self.after_norm(x), ConformerCache(lookahead, upsample, row_blocks, frame_blocks)

    def _run(
        self,
        blocks: nn.ModuleList,
        x: Tensor,
        caches: tuple[KeyValue, ...] | None,
        visible: Tensor | None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        n_cached = caches[0][0].shape[2] if caches else 0
        positions = relative_positions(x.shape[1], n_cached + x.shape[1], x, self.width)
        new_caches: list[KeyValue] = []
        for block, cache in zip(blocks, caches or [None] * len(blocks), strict=True):
            x, new_cache = block(x, positions, cache, visible)
            new_caches.append(new_cache)
        return x, tuple(new_caches)
