# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# Triton launches kernels with keywords of its own, marks its integers as constexpr, and is typed as
# if what a kernel calls never returned.
"""Triton kernels of a one-token step, the products apart: norm, attention, gated activation.

Imported only where Triton is available. Each row's bits depend on its own numbers alone: nothing is
split by how many rows, or how many keys of others, there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

SPLIT_KEYS = 128  # keys of one program; fixed, so that the order of additions is
_COMBINED_SPLITS = 8  # read at once by the program that combines
_LEAST_ROWS = 16  # of a matrix product on the tensor cores
_SILU_BLOCK = 1024
# Triton's interpreter, which tests use, multiplies bfloat16 matrices as if they were integers.
_INTERPRETED = tl.constexpr(knobs.runtime.interpret)


@triton.jit
def dot(a, b, summed):
    """summed + a · b on the tensor cores, summed in float32."""
    if _INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, summed)


@triton.jit
def _norm(
    x,
    delta,
    gain,
    out,
    eps,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_DELTA: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * WIDTH
    at = tl.arange(0, BLOCK)
    is_inside = at < WIDTH
    gains = tl.load(gain + at, mask=is_inside, other=0.0).to(tl.float32)
    row = tl.load(x + start + at, mask=is_inside, other=0.0)
    if HAS_DELTA:
        more = tl.load(delta + start + at, mask=is_inside, other=0.0)
        row = (row.to(tl.float32) + more.to(tl.float32)).to(row.dtype)
        tl.store(x + start + at, row, mask=is_inside)
    wide = row.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / WIDTH + eps)
    tl.store(out + start + at, (wide * scale * gains).to(row.dtype), mask=is_inside)


def norm(x: Tensor, gain: Tensor, eps: float, delta: Tensor | None = None) -> Tensor:
    """RMS norm of rows [M, D], variance in float32; `delta` [M, D] is first added to x in place."""
    out = torch.empty_like(x)
    n_rows, width = x.shape
    _norm[(n_rows,)](
        x,
        x if delta is None else delta,
        gain,
        out,
        eps,
        WIDTH=width,
        BLOCK=triton.next_power_of_2(width),
        HAS_DELTA=delta is not None,
        num_warps=8,
    )
    return out


@triton.jit
def silu(gate):
    """Of float32, rounded to bfloat16 where the plain form rounds: before and after."""
    wide = gate.to(tl.bfloat16).to(tl.float32)
    return (wide / (1.0 + tl.exp(-wide))).to(tl.bfloat16).to(tl.float32)


@triton.jit
def _silu_mul(gate_up, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_inside = at < WIDTH
    gate = tl.load(gate_up + row * 2 * WIDTH + at, mask=is_inside, other=0.0)
    up = tl.load(gate_up + row * 2 * WIDTH + WIDTH + at, mask=is_inside, other=0.0)
    product = silu(gate.to(tl.float32)) * up.to(tl.float32)
    tl.store(out + row * WIDTH + at, product.to(gate.dtype), mask=is_inside)


def silu_mul(gate_up: Tensor) -> Tensor:
    """Rows [M, 2 · I], gates first → silu(gate) · up [M, I]."""
    gate_up = gate_up.contiguous()
    n_rows, width = len(gate_up), gate_up.shape[1] // 2
    out = gate_up.new_empty(n_rows, width)
    grid = (triton.cdiv(width, _SILU_BLOCK), n_rows)
    _silu_mul[grid](gate_up, out, WIDTH=width, BLOCK=_SILU_BLOCK, num_warps=4)
    return out


@triton.jit
def _split_keys(
    row,
    kept,
    kind_stride,
    position,
    group,
    at,
    GROUPS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    CAPACITY: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Keys and values at `at`, the new token's among them; their own split writes these down."""
    channels = tl.arange(0, HEAD)
    new_key = tl.load(row + (HEADS * GROUPS + group) * HEAD + channels)
    new_value = tl.load(row + ((HEADS + 1) * GROUPS + group) * HEAD + channels)
    places = at[:, None] * HEAD + channels[None, :]
    is_old, is_new = (at < position)[:, None], (at == position)[:, None]
    keys = tl.load(kept + places, mask=is_old, other=0.0)
    values = tl.load(kept + kind_stride + places, mask=is_old, other=0.0)
    keys = tl.where(is_new, new_key[None, :], keys)
    values = tl.where(is_new, new_value[None, :], values)
    # This launch does not read it back: it takes the new key and value from qkv.
    is_mine = (channels >= 0) & (position // SPLIT == tl.program_id(0)) & (position < CAPACITY)
    tl.store(kept + position * HEAD + channels, new_key, mask=is_mine)
    tl.store(kept + kind_stride + position * HEAD + channels, new_value, mask=is_mine)
    return keys, values


@triton.jit
def _weigh(
    q,
    keys,
    values,
    slope,
    position,
    at,
    SCALE: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Of each head: the values by their weights, summed; its highest score; its weights' sum."""
    distance = tl.sqrt(tl.maximum(position - at, 0).to(tl.float32))
    scores = dot(q, tl.trans(keys), tl.zeros((ROWS, SPLIT), tl.float32)) * SCALE
    scores -= slope[:, None] * distance[None, :]
    scores = tl.where((at <= position)[None, :], scores, -float("inf"))
    top = tl.max(scores, 1)
    weights = tl.exp(scores - top[:, None])
    total = tl.sum(weights, 1)
    summed = dot(weights.to(values.dtype), values, tl.zeros((ROWS, HEAD), tl.float32))
    return summed, top, total


@triton.jit
def _combine(
    sums,
    tops,
    totals,
    of_pair,
    n_splits,
    ROWS: tl.constexpr,
    HEAD: tl.constexpr,
    ALL_SPLITS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """What `_weigh` gave for all splits of a slot and group, as one: values by their weights."""
    heads, channels = tl.arange(0, ROWS), tl.arange(0, HEAD)
    every = tl.arange(0, ALL_SPLITS)
    all_tops = tl.load(
        tops + of_pair + every[:, None] * ROWS + heads[None, :],
        mask=(every < n_splits)[:, None],
        other=-float("inf"),
        cache_modifier=".cg",
    )
    peak = tl.max(all_tops, 0)
    all_sums = tl.zeros((ROWS, HEAD), tl.float32)
    all_totals = tl.zeros((ROWS,), tl.float32)
    first = tl.full((), 0, tl.int32)
    while first < n_splits:
        some = first + tl.arange(0, CHUNK)
        is_there = (some < n_splits)[:, None]
        theirs = of_pair + some[:, None] * ROWS + heads[None, :]
        their_tops = tl.load(
            tops + theirs, mask=is_there, other=-float("inf"), cache_modifier=".cg"
        )
        their_totals = tl.load(totals + theirs, mask=is_there, other=0.0, cache_modifier=".cg")
        their_sums = tl.load(
            sums + theirs[:, :, None] * HEAD + channels[None, None, :],
            mask=is_there[:, :, None],
            other=0.0,
            cache_modifier=".cg",
        )
        share = tl.exp(their_tops - peak[None, :])
        all_totals += tl.sum(share * their_totals, 0)
        all_sums += tl.sum(share[:, :, None] * their_sums, 0)
        first += CHUNK
    return all_sums / all_totals[:, None]


@triton.jit(do_not_specialize=["first_slot"], do_not_specialize_on_alignment=["positions"])
def _attend(
    qkv,
    cache,
    positions,
    slopes,
    sums,
    tops,
    totals,
    arrivals,
    out,
    first_slot,
    kind_stride,
    SCALE: tl.constexpr,
    GROUPS: tl.constexpr,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD: tl.constexpr,
    CAPACITY: tl.constexpr,
    SPLIT: tl.constexpr,
    MAX_SPLITS: tl.constexpr,
    ALL_SPLITS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """One split of the keys of one slot and group; the last to arrive combines the splits."""
    split, group, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    position = tl.load(positions + b).to(tl.int32)
    n_splits = tl.minimum(position // SPLIT + 1, tl.num_programs(0))
    if split >= n_splits:
        return
    heads, channels = tl.arange(0, ROWS), tl.arange(0, HEAD)
    is_head = heads < HEADS
    row = qkv + b.to(tl.int64) * ((HEADS + 2) * GROUPS * HEAD)
    of_head = (group * HEADS + heads) * HEAD
    q = tl.load(row + of_head[:, None] + channels[None, :], mask=is_head[:, None], other=0.0)
    slope = tl.load(slopes + group * HEADS + heads, mask=is_head, other=0.0)
    kept = cache + ((first_slot + b).to(tl.int64) * GROUPS + group) * (CAPACITY * HEAD)
    at = split * SPLIT + tl.arange(0, SPLIT)
    keys, values = _split_keys(
        row, kept, kind_stride, position, group, at, GROUPS, HEADS, HEAD, CAPACITY, SPLIT
    )
    summed, top, total = _weigh(q, keys, values, slope, position, at, SCALE, ROWS, HEAD, SPLIT)

    result = out + b.to(tl.int64) * (HEADS * GROUPS * HEAD)
    result += of_head[:, None] + channels[None, :]
    if n_splits == 1:
        whole = (summed / total[:, None]).to(values.dtype)
        tl.store(result, whole, mask=is_head[:, None])
    else:
        pair = b * GROUPS + group
        of_pair = pair.to(tl.int64) * (MAX_SPLITS * ROWS)
        mine = of_pair + split * ROWS + heads
        tl.store(sums + mine[:, None] * HEAD + channels[None, :], summed)
        tl.store(tops + mine, top)
        tl.store(totals + mine, total)
        tl.debug_barrier()  # every thread has stored before one signals it
        arrived = tl.atomic_add(arrivals + pair, 1, sem="acq_rel", scope="gpu")
        if arrived == n_splits - 1:
            tl.debug_barrier()
            all_splits = _combine(
                sums, tops, totals, of_pair, n_splits, ROWS, HEAD, ALL_SPLITS, CHUNK
            )
            tl.store(result, all_splits.to(values.dtype), mask=is_head[:, None])
            tl.store(arrivals + pair, 0)  # for the next launch


@dataclass(frozen=True, slots=True, eq=False)
class _Scratch:
    """Buffers from the splits to the program that combines them; for one launch at a time."""

    sums: Tensor
    tops: Tensor
    totals: Tensor
    arrivals: Tensor


class Attention:
    """Attention of one new token a slot over the slot's keys, which it is written to.

    slopes: float32 (heads,) ≥ 0 of the bias −slope·√distance. Keys beyond a slot's position are not
    read, so they may be anything.
    """

    def __init__(
        self, slopes: Tensor, *, slots: int, groups: int, head: int, capacity: int
    ) -> None:
        self._slopes = slopes
        self._groups, self._head, self._capacity = groups, head, capacity
        self._heads = len(slopes) // groups
        self._rows = max(_LEAST_ROWS, triton.next_power_of_2(self._heads))
        self._max_splits = triton.cdiv(capacity, SPLIT_KEYS)
        pairs = (slots, groups, self._max_splits, self._rows)
        device = slopes.device
        self._scratch = _Scratch(
            sums=torch.zeros(*pairs, head, device=device),
            tops=torch.zeros(pairs, device=device),
            totals=torch.zeros(pairs, device=device),
            arrivals=torch.zeros(slots, groups, dtype=torch.int32, device=device),
        )

    @staticmethod
    def fits(head: int, capacity: int) -> bool:
        """Whether a model of these sizes can be attended to."""
        return head in (16, 32, 64, 128) and capacity % SPLIT_KEYS == 0

    def __call__(
        self, qkv: Tensor, cache: Tensor, positions: Tensor, first_slot: int, n_keys: int
    ) -> Tensor:
        """qkv [B, (heads + 2 · G) · head] of slots from `first_slot` → [B, heads · head].

        cache: one layer's [2, slots, G, capacity, head]. positions: int64 (B,), where each token
        goes; those at `n_keys` and beyond give nonsense and are not written.
        """
        batch = len(qkv)
        out = qkv.new_empty(batch, len(self._slopes) * self._head)
        scratch = self._scratch
        _attend[(triton.cdiv(n_keys, SPLIT_KEYS), self._groups, batch)](
            qkv,
            cache,
            positions,
            self._slopes,
            scratch.sums,
            scratch.tops,
            scratch.totals,
            scratch.arrivals,
            out,
            first_slot,
            cache.stride(0),
            SCALE=self._head**-0.5,
            GROUPS=self._groups,
            HEADS=self._heads,
            ROWS=self._rows,
            HEAD=self._head,
            CAPACITY=self._capacity,
            SPLIT=SPLIT_KEYS,
            MAX_SPLITS=self._max_splits,
            ALL_SPLITS=triton.next_power_of_2(self._max_splits),
            CHUNK=_COMBINED_SPLITS,
            num_warps=4,
            num_stages=1,
        )
        return out
