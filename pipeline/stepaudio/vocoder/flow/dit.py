# pyright: basic
"""The flow's estimator: a diffusion transformer that maps a noisy mel to its velocity.

Without a cache it sees a whole utterance; with one, a chunk that attends to the frames kept and to
itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.config import EstimatorConfig

TIME_FEATURES = 256  # sinusoidal features of the time step
TIME_SCALE = 1000.0
MAX_PERIOD = 10_000.0
CONV_KERNEL = 3
N_PAST = CONV_KERNEL - 1  # inputs that a convolution needs of the frames before
NORM_EPS = 1e-6
BLOCK_MODULATIONS = 9  # shift, scale, gate of attention, feed-forward and convolution
FINAL_MODULATIONS = 2
_SCALE_ROWS = (1, 4, 7)  # of a block's modulation: attention's, feed-forward's, convolution's


@dataclass(frozen=True, slots=True)
class Retention:
    """Which cached frames a chunk may attend to: the prompt's, and the most recent others."""

    prompt_frames: int
    recent_frames: int

    def select(self, cached: Tensor) -> tuple[Tensor, ...]:
        """[B, H, T, C], oldest first → the parts to keep, in order."""
        if cached.shape[2] <= self.prompt_frames + self.recent_frames:
            return (cached,)
        recent = cached[:, :, cached.shape[2] - self.recent_frames :]
        return cached[:, :, : self.prompt_frames], recent


@dataclass(frozen=True, slots=True)
class BlockCache:
    """One block's past."""

    keys: Tensor
    """[B, H, T, C], oldest first."""
    values: Tensor
    """[B, H, T, C], oldest first."""
    conv_in: Tensor
    """[B, D, kernel - 1]."""
    conv_out: Tensor
    """[B, D, kernel - 1]."""

    def extended(
        self, keys: Tensor, values: Tensor, retention: Retention | None
    ) -> tuple[Tensor, Tensor]:
        """Kept and new keys and values, [B, H, kept + new, C] each."""
        return _append(self.keys, keys, retention), _append(self.values, values, retention)

    def followed_by(
        self, keys: Tensor, values: Tensor, conv_in: Tensor, conv_out: Tensor
    ) -> BlockCache:
        """The next chunk's cache; keys and values as `extended` gave them."""
        return BlockCache(keys, values, conv_in, conv_out)


@dataclass(frozen=True, slots=True)
class Modulation:
    """What one time step does to every block."""

    blocks: Tensor
    """[depth, 9, D]."""
    final: Tensor
    """[2, D]."""


def with_ones(modulation: Modulation) -> tuple[Tensor, Tensor]:
    """Copies of the blocks' rows [depth, 9, D] and the final two; scales have the one added."""
    blocks, final = modulation.blocks.clone(), modulation.final.clone()
    blocks[:, _SCALE_ROWS] += 1
    final[1] += 1
    return blocks, final


class TimestepEmbedder(nn.Module):
    """Time in 0 … 1 → vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        """t: [N] → [N, D]"""
        half = TIME_FEATURES // 2
        exponent = torch.arange(half, device=t.device, dtype=torch.float32) / half
        angle = TIME_SCALE * t[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponent).to(t.dtype)
        return self.mlp(torch.cat((angle.cos(), angle.sin()), dim=-1))


class Attention(nn.Module):
    """Full self-attention with normalised queries and keys, without positions."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        inner = heads * head_width
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(width, inner)
        self.to_v = nn.Linear(width, inner)
        self.q_norm = nn.LayerNorm(head_width)
        self.k_norm = nn.LayerNorm(head_width)
        self.proj = nn.Linear(inner, width)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)  # [B, H, T, C]

    def forward(
        self,
        x: Tensor,
        cache: BlockCache | None,
        retention: Retention | None,
        visible: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x: [B, T, D] → [B, T, D], and keys and values of kept and new frames."""
        q = self.q_norm(self._heads(self.to_q(x)))
        k = self.k_norm(self._heads(self.to_k(x)))
        v = self._heads(self.to_v(x))
        if cache is not None:
            k, v = cache.extended(k, v, retention)
        mask = None if visible is None else visible[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).flatten(2)), k, v


def _append(cached: Tensor, new: Tensor, retention: Retention | None) -> Tensor:
    """Trimming happens in the copy that appending needs anyway."""
    kept = (cached,) if retention is None else retention.select(cached)
    return torch.cat((*kept, new), dim=2)


class Mlp(nn.Module):
    """Two linear layers with tanh-approximated GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class CausalConvBlock(nn.Module):
    """Two causal convolutions with LayerNorm and Mish between.

    `block` keeps the official indices.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.ModuleDict(
            {
                "1": nn.Conv1d(width, width, CONV_KERNEL),
                "3": nn.LayerNorm(width),
                "6": nn.Conv1d(width, width, CONV_KERNEL),
            }
        )

    def forward(self, x: Tensor, cache: BlockCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """x: [B, T, D] → [B, T, D] and the last inputs of both convolutions."""
        x = _with_past(x.transpose(1, 2), None if cache is None else cache.conv_in)
        conv_in = x[..., -N_PAST:].clone()  # a view would keep the whole chunk alive
        x = F.mish(self.block["3"](self.block["1"](x).transpose(1, 2)))
        x = _with_past(x.transpose(1, 2), None if cache is None else cache.conv_out)
        conv_out = x[..., -N_PAST:].clone()
        return self.block["6"](x).transpose(1, 2), conv_in, conv_out


def _with_past(x: Tensor, past: Tensor | None) -> Tensor:
    return F.pad(x, (N_PAST, 0)) if past is None else torch.cat((past, x), dim=2)


class Block(nn.Module):
    """Attention, convolution and feed-forward, each shifted, scaled and gated by the time step."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.attn = Attention(width, config.num_heads, config.head_dim)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))
        self.conv = CausalConvBlock(width)
        self.adaLN_modulation = nn.Sequential(
            nn.SiLU(), nn.Linear(width, BLOCK_MODULATIONS * width)
        )

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        cache: BlockCache | None,
        retention: Retention | None,
        visible: Tensor | None,
    ) -> tuple[Tensor, BlockCache]:
        """x: [B, T, D], modulation: [9, D]. Returns [B, T, D] and the cache for the next chunk."""
        attn, mlp, conv = modulation.unflatten(0, (3, 3))  # each: shift, scale, gate
        out, keys, values = self.attn(_modulate(x, attn), cache, retention, visible)
        x = x + attn[2] * out
        out, conv_in, conv_out = self.conv(_modulate(x, conv), cache)
        x = x + conv[2] * out
        x = x + mlp[2] * self.mlp(_modulate(x, mlp))
        follow = BlockCache if cache is None else cache.followed_by
        return x, follow(keys, values, conv_in, conv_out)


def _modulate(x: Tensor, shift_scale: Tensor) -> Tensor:
    """LayerNorm without weights, then shift (row 0) and scale (row 1)."""
    shift, scale = shift_scale[0], shift_scale[1]
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * (1 + scale) + shift


class FinalLayer(nn.Module):
    """Hidden states → velocity."""

    def __init__(self, width: int, n_out: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(
            nn.SiLU(), nn.Linear(width, FINAL_MODULATIONS * width)
        )
        self.linear = nn.Linear(width, n_out)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        return self.linear(_modulate(x, modulation))


class Estimator(nn.Module):
    """Diffusion transformer."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.width = config.hidden_size
        self.t_embedder = TimestepEmbedder(config.hidden_size)
        self.in_proj = nn.Linear(config.in_channels, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config.hidden_size, config.out_channels)

    def modulations(self, times: Tensor) -> tuple[Modulation, ...]:
        """Everything that depends on the time step alone, once for a whole schedule.

        times: [N] in 0 … 1. Returns one modulation per time.
        """
        embedded = self.t_embedder(times)
        each = [block.get_submodule("adaLN_modulation")(embedded) for block in self.blocks]
        blocks = torch.stack(each, dim=1).unflatten(
            -1, (BLOCK_MODULATIONS, self.width)
        )  # [N, depth, 9, D]
        final = self.final_layer.adaLN_modulation(embedded)
        final = final.unflatten(-1, (FINAL_MODULATIONS, self.width))  # [N, 2, D]
        return tuple(Modulation(b, f) for b, f in zip(blocks, final, strict=True))

    def forward(
        self,
        x: Tensor,
        modulation: Modulation,
        cache: tuple[BlockCache, ...] | None = None,
        retention: Retention | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, tuple[BlockCache, ...]]:
        """Velocity of one step.

        x: [B, C, T], noisy mel, mu, speaker and condition stacked. visible: bool [B, cached + T],
        which frames exist where sequences are padded to one length; None for all. Returns
        [B, M, T] and the blocks' caches.
        """
        x = self.in_proj(x.transpose(1, 2))
        new_caches: list[BlockCache] = []
        for i, block in enumerate(self.blocks):
            past = None if cache is None else cache[i]
            x, new_cache = block(x, modulation.blocks[i], past, retention, visible)
            new_caches.append(new_cache)
        return self.final_layer(x, modulation.final).transpose(1, 2), tuple(new_caches)
