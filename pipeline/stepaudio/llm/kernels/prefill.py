# pyright: basic, reportCallIssue=false, reportArgumentType=false
# Triton launches kernels with keywords of its own and marks its integers as constexpr.
"""Triton kernels of a chunk of prefill, the products apart: attention, and what fills the cache.

Imported only where Triton is available. Slot and place are read on the device, so a recorded launch
serves every slot. Keys are taken in blocks from position 0, so the order of a row's additions
depends on its position alone.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from pipeline.stepaudio.llm.kernels.decode import dot

_QUERIES = 64  # of one program, each a token's in one head: what the tensor cores take at once
_KEYS = 128  # read at once
_WRITTEN = 8  # tokens of one program that only writes
_MOST_PIPELINED_HEAD = 64  # with wider heads two blocks of keys do not fit a small GPU
_WARPS = 4
_LOG2_E = math.log2(math.e)


@triton.jit
def _keep(
    qkv,
    kept,
    kind_stride,
    start,
    n_rows,
    block,
    group,
    GROUPS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    CAPACITY: tl.constexpr,
    TOKENS: tl.constexpr,
    TOKEN_BLOCK: tl.constexpr,
):
    """Write one group's keys and values of `TOKENS` rows into the cache, as far as that goes."""
    some, channels = tl.arange(0, TOKEN_BLOCK), tl.arange(0, HEAD)
    rows = block * TOKENS + some
    is_mine = (some < TOKENS) & (rows < n_rows) & (start + rows < CAPACITY)
    new = qkv + rows[:, None] * ((HEADS + 2) * GROUPS * HEAD) + channels[None, :]
    keys = tl.load(new + (HEADS * GROUPS + group) * HEAD, mask=is_mine[:, None])
    values = tl.load(new + ((HEADS + 1) * GROUPS + group) * HEAD, mask=is_mine[:, None])
    places = kept + (start + rows)[:, None] * HEAD + channels[None, :]
    tl.store(places, keys, mask=is_mine[:, None])
    tl.store(places + kind_stride, values, mask=is_mine[:, None])


@triton.jit(do_not_specialize=["n_rows"])
def _write(
    qkv,
    cache,
    start_at,
    slot_at,
    kind_stride,
    n_rows,
    GROUPS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    CAPACITY: tl.constexpr,
    TOKENS: tl.constexpr,
):
    block, group = tl.program_id(0), tl.program_id(1)
    start = tl.load(start_at).to(tl.int32)
    kept = cache + (tl.load(slot_at).to(tl.int64) * GROUPS + group) * (CAPACITY * HEAD)
    _keep(
        qkv,
        kept,
        kind_stride,
        start,
        n_rows,
        block,
        group,
        GROUPS,
        HEADS,
        HEAD,
        CAPACITY,
        TOKENS,
        TOKENS,
    )


@triton.jit(do_not_specialize=["n_rows"])
def _attend_chunk(
    qkv,
    cache,
    start_at,
    slot_at,
    slopes,
    out,
    kind_stride,
    n_rows,
    SCALE: tl.constexpr,
    SLOPE_SCALE: tl.constexpr,
    GROUPS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    CAPACITY: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    TOKENS: tl.constexpr,
    TOKEN_BLOCK: tl.constexpr,
):
    """A block of one group's queries, token by token and head by head, over all keys they see."""
    block, group = tl.program_id(0), tl.program_id(1)
    start = tl.load(start_at).to(tl.int32)
    kept = cache + (tl.load(slot_at).to(tl.int64) * GROUPS + group) * (CAPACITY * HEAD)
    # Nobody reads what is written here: keys and values of this chunk all come from qkv.
    _keep(
        qkv,
        kept,
        kind_stride,
        start,
        n_rows,
        block,
        group,
        GROUPS,
        HEADS,
        HEAD,
        CAPACITY,
        TOKENS,
        TOKEN_BLOCK,
    )
    channels = tl.arange(0, HEAD)
    queries = block * QUERIES + tl.arange(0, QUERIES)
    is_query = queries < n_rows * HEADS
    rows, heads = queries // HEADS, group * HEADS + queries % HEADS
    q = tl.load(
        qkv + (rows * ((HEADS + 2) * GROUPS * HEAD) + heads * HEAD)[:, None] + channels[None, :],
        mask=is_query[:, None],
        other=0.0,
    )
    slope = tl.load(slopes + heads, mask=is_query, other=0.0) * SLOPE_SCALE
    positions = start + rows
    last = start + tl.minimum(block * QUERIES + QUERIES - 1, n_rows * HEADS - 1) // HEADS

    top = tl.full((QUERIES,), -float("inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    summed = tl.zeros((QUERIES, HEAD), tl.float32)
    for first in range(0, last + 1, KEYS):
        at = first + tl.arange(0, KEYS)
        new = qkv + (at - start) * ((HEADS + 2) * GROUPS * HEAD) + (HEADS * GROUPS + group) * HEAD
        old = kept + at * HEAD
        is_old, is_there = at < start, (at <= last)[:, None]
        key_rows = tl.where(is_old, old, new)
        value_rows = tl.where(is_old, old + kind_stride, new + GROUPS * HEAD)
        keys = tl.load(key_rows[:, None] + channels[None, :], mask=is_there, other=0.0)
        values = tl.load(value_rows[:, None] + channels[None, :], mask=is_there, other=0.0)
        behind = positions[:, None] - at[None, :]
        scores = dot(q, tl.trans(keys), tl.zeros((QUERIES, KEYS), tl.float32)) * SCALE
        scores -= slope[:, None] * tl.sqrt(tl.maximum(behind, 0).to(tl.float32))
        scores = tl.where(behind >= 0, scores, -float("inf"))  # of powers of two, as is all below
        new_top = tl.maximum(top, tl.max(scores, 1))  # never −∞: each row sees key 0, in block 0
        weights = tl.exp2(scores - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(weights, 1)
        summed = dot(weights.to(values.dtype), values, summed * fade[:, None])
        top = new_top

    result = out + (rows * (HEADS * GROUPS * HEAD) + heads * HEAD)[:, None] + channels[None, :]
    tl.store(result, (summed / total[:, None]).to(out.dtype.element_ty), mask=is_query[:, None])


class ChunkAttention:
    """Attention of a chunk of one slot's tokens over the slot's keys, which it is written to.

    slopes: float32 (heads,) ≥ 0 of the bias −slope·√distance. Of the cache only keys before the
    chunk are read, so what stands behind them may be anything.
    """

    def __init__(self, slopes: Tensor, *, groups: int, head: int, capacity: int) -> None:
        self._slopes = slopes
        self._groups, self._head, self._capacity = groups, head, capacity
        self._heads = len(slopes) // groups
        self._tokens = triton.cdiv(_QUERIES, self._heads)  # a program writes, at least its share

    def __call__(self, qkv: Tensor, cache: Tensor, start: Tensor, slot: Tensor) -> Tensor:
        """qkv [T, (heads + 2 · G) · head], contiguous → [T, heads · head].

        cache: one layer's [2, slots, G, capacity, head]. start, slot: int64 (1,), where the first
        row goes. Rows that would stand behind the cache's end are not written.
        """
        n_rows = len(qkv)
        out = qkv.new_empty(n_rows, len(self._slopes) * self._head)
        _attend_chunk[(triton.cdiv(n_rows * self._heads, _QUERIES), self._groups)](
            qkv,
            cache,
            start,
            slot,
            self._slopes,
            out,
            cache.stride(0),
            n_rows,
            SCALE=self._head**-0.5 * _LOG2_E,
            SLOPE_SCALE=_LOG2_E,
            GROUPS=self._groups,
            HEADS=self._heads,
            HEAD=self._head,
            CAPACITY=self._capacity,
            QUERIES=_QUERIES,
            KEYS=_KEYS,
            TOKENS=self._tokens,
            TOKEN_BLOCK=triton.next_power_of_2(self._tokens),
            num_warps=_WARPS,
            num_stages=2 if self._head <= _MOST_PIPELINED_HEAD else 1,
        )
        return out

    def write(self, qkv: Tensor, cache: Tensor, start: Tensor, slot: Tensor) -> None:
        """Only fill the cache: arguments as of a call."""
        n_rows = len(qkv)
        _write[(triton.cdiv(n_rows, _WRITTEN), self._groups)](
            qkv,
            cache,
            start,
            slot,
            cache.stride(0),
            n_rows,
            GROUPS=self._groups,
            HEADS=self._heads,
            HEAD=self._head,
            CAPACITY=self._capacity,
            TOKENS=_WRITTEN,
            num_warps=_WARPS,
        )
