# pyright: basic
"""Attention with ALiBi's biases over views of the key/value cache, in PyTorch's operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.stepaudio.llm.kv_cache import KEY_BLOCK_TOKENS
from pipeline.stepaudio.llm.step1 import alibi_slopes


class AlibiAttention:
    """Grouped-query attention of `n_heads` heads over `groups` key heads of `head_size`.

    capacity: the most keys that a query sees. slopes: float32 (heads,), ≥ 0.
    """

    def __init__(
        self, n_heads: int, *, groups: int, head_size: int, capacity: int, device: torch.device
    ) -> None:
        self._n_groups, self._head_size, self._capacity = groups, head_size, capacity
        # Entry capacity − 1 + j − p is −slope·√(p − j), key j seen from query p; −∞ for the future.
        past = torch.arange(capacity - 1, -1, -1, device=device).float().sqrt()
        distances = torch.cat([past, torch.full_like(past, torch.inf)])
        self.slopes = alibi_slopes(n_heads).to(device)
        self._biases = (-self.slopes[:, None] * distances).unflatten(0, (groups, -1))

    def __call__(self, qkv: Tensor, keys: Tensor, values: Sequence[Tensor], bias: Tensor) -> Tensor:
        """Queries of qkv [B·T, …] over keys and values as the cache gives them → [B·T, D].

        bias float32 [B·G, T·R, keys]. A group's heads are rows against its one key head.
        """
        size, batch = self._head_size, len(keys) // self._n_groups
        width = qkv.shape[-1] - 2 * self._n_groups * size
        q = qkv[:, :width]
        if len(qkv) > batch:  # one token a slot needs no reordering
            n_heads = width // size // self._n_groups
            q = q.reshape(batch, -1, self._n_groups, n_heads, size).transpose(1, 2)
        q = q.reshape(batch * self._n_groups, -1, size)
        weights = _scores(q, keys, bias).softmax(-1).to(qkv.dtype).split(KEY_BLOCK_TOKENS, -1)
        out = torch.bmm(weights[0], values[0])
        for weight, value in zip(weights[1:], values[1:], strict=True):
            out = torch.baddbmm(out, weight, value)
        if len(qkv) > batch:
            out = out.view(batch, self._n_groups, len(qkv) // batch, -1).transpose(1, 2)
        return out.reshape(len(qkv), width)

    def bias(self, positions: Tensor, batch: int, n_keys: int) -> Tensor:
        """The one additive mask: −slope·√distance, −∞ for the future.

        positions [B·T] → float32 [B·G, T·R, keys].
        """
        starts = self._capacity - 1 - positions
        found = self._biases.unfold(2, n_keys, 1).transpose(1, 2)[:, starts]  # [G, B·T, R, keys]
        if batch > 1:
            found = found.unflatten(1, (batch, -1)).transpose(0, 1)
        return found.reshape(batch * self._n_groups, -1, n_keys)


def _scores(q: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """Biased float32 scores: q [N, rows, head], keys [N, head, keys], bias [N, rows, keys]."""
    scale = q.shape[-1] ** -0.5
    if q.dtype == torch.float32:
        return torch.baddbmm(bias, q, keys, alpha=scale)
    return torch.add(bias, torch.bmm(q, keys), alpha=scale)  # sums in float32
