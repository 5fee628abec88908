# pyright: basic, reportCallIssue=false, reportArgumentType=false
# Triton launches kernels with keywords of its own and marks its integers as constexpr.
"""Between two products of the estimator: gate, sum, norm, modulation and windows, in one pass.

Rows are frames of 2B sequences, guided ones of all streams first; T to a sequence.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pipeline.stepaudio.vocoder.flow.dit import CONV_KERNEL, N_PAST, NORM_EPS

_CONV_FROM, _CONV_TO, _N_NEW, _N_PLACE = (tl.constexpr(n) for n in (1, 2, 8, 9))  # see Place
_N_PAST = tl.constexpr(N_PAST)
_WARPS = 4
_INTERPRETED_ROWS = 256  # a program of Triton's interpreter costs the same for one row and for many


@triton.jit
def _normed(x, at, WIDTH: tl.constexpr, eps):
    """LayerNorm of each row, without weights; x is 0 beyond WIDTH."""
    mean = tl.sum(x, 1) / WIDTH
    away = tl.where(at[None, :] < WIDTH, x - mean[:, None], 0.0)
    variance = tl.sum(away * away, 1) / WIDTH
    return away * tl.rsqrt(variance + eps)[:, None]


@triton.jit
def _write_windows(
    y, rows, is_row, windows, anchor, step, places, n_rows, n_frames,
    block, which, N_BLOCKS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each frame into the windows of the three frames that see it, and what the next chunk needs.

    The past's two frames come from `conv_from`, this chunk's last two go to `conv_to`.
    """
    at = tl.arange(0, BLOCK)
    frame, sequence = rows % n_frames, rows // n_frames
    n_streams = n_rows // n_frames // 2
    place = places + (sequence % n_streams) * _N_PLACE
    side = sequence // n_streams
    n_new = tl.load(place + _N_NEW, mask=is_row, other=0)
    is_column = at[None, :] < WIDTH
    row_start = rows.to(tl.int64)[:, None] * (3 * WIDTH) + at[None, :]
    whole = is_row[:, None] & is_column
    for later in tl.static_range(3):  # pyright: ignore[reportGeneralTypeIssues]
        # frame t is seen by t, t + 1, t + 2, and stands last, in the middle, first there
        seen = whole & (frame + later < n_frames)[:, None]
        tl.store(windows + row_start + later * 3 * WIDTH + (2 - later) * WIDTH, y, mask=seen)

    inner = ((step * N_BLOCKS + block) * 2 + which) * 2 + side
    inner = (inner * _N_PAST * WIDTH)[:, None] + at[None, :]
    source = anchor + tl.load(place + _CONV_FROM, mask=is_row, other=0)[:, None] + inner
    begins = whole & ((frame == 0) & (n_new > 0))[:, None]
    older = tl.load(source, mask=begins, other=0.0).to(tl.float16)
    newer = tl.load(source + WIDTH, mask=begins, other=0.0).to(tl.float16)
    tl.store(windows + row_start, older, mask=begins)
    tl.store(windows + row_start + WIDTH, newer, mask=begins)
    has_second = begins & (n_frames > 1)
    tl.store(windows + row_start + 3 * WIDTH, newer, mask=has_second)

    target = anchor + tl.load(place + _CONV_TO, mask=is_row, other=0)[:, None] + inner
    for i in tl.static_range(2):  # pyright: ignore[reportGeneralTypeIssues]
        is_last = whole & ((frame == n_new - 2 + i) & (n_new > 0))[:, None]
        tl.store(target + i * WIDTH, y.to(tl.float32), mask=is_last)


@triton.jit
def _enter(
    hidden, moved, modulation, out, anchor, numbers, n_rows, n_frames, eps,
    gate_row, shift_row, block, N_BLOCKS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr, HAS_MOVED: tl.constexpr, IS_WINDOW: tl.constexpr,
):  # fmt: skip
    at = tl.arange(0, BLOCK)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row, is_column = rows < n_rows, at < WIDTH
    whole = is_row[:, None] & is_column[None, :]
    places_at = rows.to(tl.int64)[:, None] * WIDTH + at[None, :]
    x = tl.load(hidden + places_at, mask=whole, other=0.0)
    if HAS_MOVED:
        gate = tl.load(modulation + gate_row * WIDTH + at, mask=is_column, other=0.0)
        by = tl.load(moved + places_at, mask=whole, other=0.0).to(tl.float32)
        x = x + by * gate[None, :]
        tl.store(hidden + places_at, x, mask=whole)
    shift = tl.load(modulation + shift_row * WIDTH + at, mask=is_column, other=0.0)
    scale = tl.load(modulation + (shift_row + 1) * WIDTH + at, mask=is_column, other=0.0)
    y = (_normed(x, at, WIDTH, eps) * scale[None, :] + shift[None, :]).to(tl.float16)
    if IS_WINDOW:
        _write_windows(
            y, rows, is_row, out, anchor, tl.load(numbers), numbers + 1, n_rows, n_frames,
            block, 0, N_BLOCKS, WIDTH, BLOCK,
        )  # fmt: skip
    else:
        tl.store(out + places_at, y, mask=whole)


@triton.jit
def _between_convolutions(
    x, weight, bias, out, anchor, numbers, n_rows, n_frames, eps, block,
    N_BLOCKS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    at = tl.arange(0, BLOCK)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row, is_column = rows < n_rows, at < WIDTH
    whole = is_row[:, None] & is_column[None, :]
    places_at = rows.to(tl.int64)[:, None] * WIDTH + at[None, :]
    y = _normed(tl.load(x + places_at, mask=whole, other=0.0).to(tl.float32), at, WIDTH, eps)
    y = y * tl.load(weight + at, mask=is_column, other=0.0)[None, :]
    y = y + tl.load(bias + at, mask=is_column, other=0.0)[None, :]
    grown = tl.exp(tl.minimum(y, 20.0))  # Mish: y · tanh(log(1 + eʸ)), and beyond 20 it is y
    square = grown * (grown + 2.0)
    y = tl.where(y > 20.0, y, y * (square / (square + 2.0))).to(tl.float16)
    _write_windows(
        y, rows, is_row, out, anchor, tl.load(numbers), numbers + 1, n_rows, n_frames,
        block, 1, N_BLOCKS, WIDTH, BLOCK,
    )  # fmt: skip


class Rows:
    """The kernels above for one size of the step.

    anchor: float32, where `Place.conv_from` and `conv_to` count from. numbers: int64, the step and
    then each stream's Place. n_blocks: of the estimator.
    """

    def __init__(self, anchor: Tensor, numbers: Tensor, n_frames: int, n_blocks: int) -> None:
        self._anchor, self._numbers = anchor, numbers
        self._n_frames, self._n_blocks = n_frames, n_blocks

    def enter(
        self,
        hidden: Tensor,
        moved: Tensor | None,
        modulation: Tensor,
        gate_row: int,
        shift_row: int,
    ) -> Tensor:
        """`hidden` goes on by the gated `moved`, in place → its norm, modulated, in float16.

        hidden: float32 [2B, T, D]; moved: float16 of the same sizes, None for the first. Rows of
        `modulation`, float32 [rows, D]: the gate of `moved`; shift, then scale.
        """
        out = hidden.new_empty(hidden.shape, dtype=torch.float16)
        self._enter(hidden, moved, modulation, gate_row, shift_row, out, None)
        return out

    def enter_windows(
        self,
        hidden: Tensor,
        moved: Tensor,
        modulation: Tensor,
        gate_row: int,
        shift_row: int,
        block: int,
    ) -> Tensor:
        """As `enter`, for the first convolution of a block: float16 [2B, T, 3D], what each sees."""
        out = self._new_windows(hidden)
        self._enter(hidden, moved, modulation, gate_row, shift_row, out, block)
        return out

    def between_convolutions(self, x: Tensor, weight: Tensor, bias: Tensor, block: int) -> Tensor:
        """Norm and Mish of float16 [2B, T, D] → what the second convolution sees, [2B, T, 3D]."""
        out = self._new_windows(x)
        n_rows, width = x.shape[0] * x.shape[1], x.shape[2]
        block_rows = rows_of_program(x)
        _between_convolutions[(triton.cdiv(n_rows, block_rows),)](
            x, weight, bias, out, self._anchor, self._numbers, n_rows, self._n_frames,
            CONV_NORM_EPS, block, N_BLOCKS=self._n_blocks, WIDTH=width,
            BLOCK=triton.next_power_of_2(width), ROWS=block_rows, num_warps=_WARPS,
        )  # fmt: skip
        return out

    def _enter(
        self,
        hidden: Tensor,
        moved: Tensor | None,
        modulation: Tensor,
        gate_row: int,
        shift_row: int,
        out: Tensor,
        block: int | None,
    ) -> None:
        n_rows, width = hidden.shape[0] * hidden.shape[1], hidden.shape[2]
        block_rows = rows_of_program(hidden)
        _enter[(triton.cdiv(n_rows, block_rows),)](
            hidden, hidden if moved is None else moved, modulation, out, self._anchor,
            self._numbers, n_rows, self._n_frames, NORM_EPS, gate_row, shift_row, block or 0,
            N_BLOCKS=self._n_blocks, WIDTH=width, BLOCK=triton.next_power_of_2(width),
            ROWS=block_rows, HAS_MOVED=moved is not None, IS_WINDOW=block is not None,
            num_warps=_WARPS,
        )  # fmt: skip

    @staticmethod
    def _new_windows(x: Tensor) -> Tensor:
        n_sequences, n_frames, width = x.shape
        return x.new_empty((n_sequences, n_frames, CONV_KERNEL * width), dtype=torch.float16)


CONV_NORM_EPS = 1e-5  # torch's own default, as the released block has it


def rows_of_program(x: Tensor) -> int:
    """Rows that one program takes."""
    return 1 if x.is_cuda else _INTERPRETED_ROWS
