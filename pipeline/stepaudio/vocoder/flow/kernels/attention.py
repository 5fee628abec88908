# pyright: basic, reportCallIssue=false, reportArgumentType=false
# Triton launches kernels with keywords of its own and marks its integers as constexpr.
"""The estimator's attention where keys and values lie: new ones into the slab, then all of it seen.

Neither is copied or put in order, see `places`.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from pipeline.stepaudio.vocoder.flow.kernels.rows import rows_of_program

_SLAB, _CAPACITY, _N_FIRST, _RING_START, _RING_SEEN, _RING_NEXT, _N_NEW, _N_PLACE = (
    tl.constexpr(n) for n in (0, 3, 4, 5, 6, 7, 8, 9)
)  # see Place
_NOTHING = tl.constexpr(-1.0e30)
_HEAD_NORM_EPS = 1e-5  # torch's own default, as the released attention has it
_LOG2_E = math.log2(math.e)
_QUERIES, _KEYS = 64, 64  # that are multiplied at once, at most
_STAGES = 3  # tiles of keys that are on their way
_LEAST = 16  # of a product
_WARPS = 4


@triton.jit
def _normed_head(x, weight, bias, at, is_column, WIDTH: tl.constexpr, eps):
    mean = tl.sum(x, 1) / WIDTH
    away = tl.where(is_column[None, :], x - mean[:, None], 0.0)
    variance = tl.sum(away * away, 1) / WIDTH
    scale = tl.load(weight + at, mask=is_column, other=0.0)[None, :]
    shift = tl.load(bias + at, mask=is_column, other=0.0)[None, :]
    return (away * tl.rsqrt(variance + eps)[:, None] * scale + shift).to(tl.float16)


@triton.jit
def _place_heads(
    qkv, q_weight, q_bias, k_weight, k_bias, anchor, numbers, n_rows, n_frames, eps, block,
    N_BLOCKS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Norms of queries (in place) and keys; keys and values of new frames into the slabs."""
    at = tl.arange(0, BLOCK)
    is_column = at < WIDTH
    pairs = tl.program_id(0) * ROWS + tl.arange(0, ROWS)  # of a row and a head
    is_pair = pairs < n_rows * HEADS
    row, head = pairs // HEADS, pairs % HEADS
    sequence, frame = row // n_frames, row % n_frames
    n_streams = n_rows // n_frames // 2
    place = numbers + 1 + (sequence % n_streams) * _N_PLACE
    n_new = tl.load(place + _N_NEW, mask=is_pair, other=0)
    whole = is_pair[:, None] & is_column[None, :]
    source = qkv + (row.to(tl.int64) * (3 * HEADS * WIDTH) + head * WIDTH)[:, None] + at[None, :]
    q = tl.load(source, mask=whole, other=0.0).to(tl.float32)
    tl.store(source, _normed_head(q, q_weight, q_bias, at, is_column, WIDTH, eps), mask=whole)

    capacity = tl.load(place + _CAPACITY, mask=is_pair, other=1)
    n_first = tl.load(place + _N_FIRST, mask=is_pair, other=0)
    slot = n_first + (tl.load(place + _RING_NEXT, mask=is_pair, other=0) + frame) % (
        capacity - n_first
    )
    outer = (tl.load(numbers) * N_BLOCKS + block) * 2
    inner = (outer * 2 + sequence // n_streams) * HEADS + head
    target = tl.load(place + _SLAB, mask=is_pair, other=0) + (inner * capacity + slot) * WIDTH
    target = anchor + target[:, None] + at[None, :]
    is_new = whole & (frame < n_new)[:, None]
    k = tl.load(source + HEADS * WIDTH, mask=is_new, other=0.0).to(tl.float32)
    tl.store(target, _normed_head(k, k_weight, k_bias, at, is_column, WIDTH, eps), mask=is_new)
    v = tl.load(source + 2 * HEADS * WIDTH, mask=is_new, other=0.0)
    tl.store(target + (2 * HEADS * capacity * WIDTH)[:, None], v, mask=is_new)


@triton.jit
def _attend(
    qkv, out, anchor, numbers, n_frames, n_streams, scale, block,
    N_BLOCKS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """One head of one sequence, some queries: softmax over all slots seen, tile by tile."""
    at = tl.arange(0, BLOCK)
    is_column = at < WIDTH
    sequence, head = tl.program_id(1) // HEADS, tl.program_id(1) % HEADS
    frame = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    row = (sequence * n_frames + frame).to(tl.int64)
    whole = (frame < n_frames)[:, None] & is_column[None, :]
    q = tl.load(
        qkv + (row * (3 * HEADS * WIDTH) + head * WIDTH)[:, None] + at[None, :],
        mask=whole, other=0.0,
    )  # fmt: skip

    place = numbers + 1 + (sequence % n_streams) * _N_PLACE
    capacity = tl.load(place + _CAPACITY).to(tl.int32)
    n_first = tl.load(place + _N_FIRST).to(tl.int32)
    start = tl.load(place + _RING_START).to(tl.int32)
    seen = tl.load(place + _RING_SEEN).to(tl.int32)
    ring = capacity - n_first
    n_slots = n_first + tl.minimum(start + seen, ring)
    n_slots = tl.where(seen > 0, n_slots, 0)  # of no stream
    outer = (tl.load(numbers) * N_BLOCKS + block) * 2
    inner = (outer * 2 + sequence // n_streams) * HEADS + head
    slab = tl.multiple_of(tl.load(place + _SLAB), 8)
    keys = anchor + slab + inner * capacity * WIDTH
    values = keys + 2 * HEADS * capacity * WIDTH

    top = tl.full((QUERIES,), _NOTHING, tl.float32)
    mass = tl.zeros((QUERIES,), tl.float32)
    total = tl.zeros((QUERIES, BLOCK), tl.float32)
    slots = tl.arange(0, KEYS)
    for first in tl.range(0, n_slots, KEYS, num_stages=STAGES):
        slot = first + slots
        behind = slot - n_first - start
        behind = tl.where(behind < 0, behind + ring, behind)
        is_seen = (slot < n_first) | ((behind < seen) & (slot < n_slots))
        tile = slot[:, None] * WIDTH + at[None, :]
        is_there = is_seen[:, None] & is_column[None, :]
        k = tl.load(keys + tile, mask=is_there, other=0.0)
        score = tl.dot(q, tl.trans(k)) * scale
        score = tl.where(is_seen[None, :], score, -float("inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp2(score - higher[:, None])
        fade = tl.exp2(top - higher)
        mass = mass * fade + tl.sum(weight, 1)
        v = tl.load(values + tile, mask=is_there, other=0.0)
        total = total * fade[:, None] + tl.dot(weight.to(tl.float16), v)
        top = higher
    total = total / tl.where(mass > 0, mass, 1.0)[:, None]
    target = out + (row * (HEADS * WIDTH) + head * WIDTH)[:, None] + at[None, :]
    tl.store(target, total.to(tl.float16), mask=whole)


class SlabAttention:
    """Attention of one size of the step.

    anchor: float16, where `Place.slab` counts from. numbers: int64, the step and then each
    stream's Place. n_blocks: of the estimator.
    """

    def __init__(
        self, anchor: Tensor, numbers: Tensor, n_blocks: int, heads: int, head_width: int
    ) -> None:
        self._anchor, self._numbers, self._n_blocks = anchor, numbers, n_blocks
        self._heads, self._width = heads, head_width

    def __call__(self, qkv: Tensor, norms: tuple[Tensor, ...], block: int) -> Tensor:
        """float16 [2B, T, 3HC], spoilt → [2B, T, HC].

        norms: float32 [C] each: weight and bias of the queries' norm, then of the keys'.
        """
        n_sequences, n_frames, _ = qkv.shape
        n_rows = n_sequences * n_frames
        sizes = {
            "N_BLOCKS": self._n_blocks,
            "HEADS": self._heads,
            "WIDTH": self._width,
            "BLOCK": triton.next_power_of_2(self._width),
        }
        pairs = 8 * rows_of_program(qkv)
        _place_heads[(triton.cdiv(n_rows * self._heads, pairs),)](
            qkv, *norms, self._anchor, self._numbers, n_rows, n_frames, _HEAD_NORM_EPS, block,
            ROWS=pairs, num_warps=_WARPS, **sizes,
        )  # fmt: skip
        out = qkv.new_empty((n_sequences, n_frames, self._heads * self._width))
        queries = min(_QUERIES, max(_LEAST, triton.next_power_of_2(n_frames)))
        _attend[(triton.cdiv(n_frames, queries), n_sequences * self._heads)](
            qkv, out, self._anchor, self._numbers, n_frames, n_sequences // 2,
            self._width**-0.5 * _LOG2_E, block, QUERIES=queries, KEYS=_KEYS, STAGES=_STAGES,
            num_warps=_WARPS, **sizes,
        )  # fmt: skip
        return out
