# pyright: basic, reportCallIssue=false, reportArgumentType=false
# Triton launches kernels with keywords of its own and marks its integers as constexpr.
"""The whole draw of a row in one Triton kernel: one launch, one transfer there and one back.

Imported only where Triton is available. What `Sampler` does in some 25 launches, by the same rules:
the k-th largest logit and top-p's floor are found bit by bit instead of by sorting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

N_CONTROLS = 8  # temperature, uniform, top_p, top_k, row of the mask table, banned, greedy, place
_WARPS = 16


@triton.jit
def _draw(
    logits, logits_stride, masks, controls, choices, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0)
    control = controls + row * 8
    temperature = tl.load(control).to(tl.float32)
    uniform = tl.load(control + 1)
    top_p = tl.load(control + 2)
    top_k = tl.load(control + 3).to(tl.int32)
    mask_row = tl.load(control + 4).to(tl.int64)
    banned = tl.load(control + 5).to(tl.int32)
    is_greedy = tl.load(control + 6) > 0
    place = tl.load(control + 7).to(tl.int64)

    at = tl.arange(0, BLOCK)
    is_inside = at < WIDTH
    infinity = float("inf")
    x = tl.load(logits + place * logits_stride + at, mask=is_inside, other=-infinity)
    allowed = tl.load(masks + mask_row * WIDTH + at, mask=is_inside, other=-infinity)
    x = allowed + tl.div_rn(x, temperature)
    n_bad = tl.sum(((x != x) | (x == infinity)).to(tl.int32), 0)
    x = tl.where(at == banned, -infinity, x)
    is_bad = (n_bad > 0) | (tl.max(x, 0) == -infinity)
    x = tl.where(is_bad, 0.0, x)
    top = tl.max(x, 0)
    likeliest = tl.min(tl.where(x == top, at, BLOCK), 0)

    # As integers in the order of the numbers. The mask's +0 has made every −0 a +0.
    bits = x.to(tl.int32, bitcast=True)
    order = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    floor = tl.full((), -2147483648, tl.int32)
    if top_k > 0:  # the largest floor that leaves k or more
        wanted = tl.minimum(top_k, WIDTH)
        if tl.sum((order >= 0).to(tl.int32), 0) >= wanted:
            floor = tl.full((), 0, tl.int32)
        for i in range(31):
            higher = floor + (1 << (30 - i))
            if tl.sum((order >= higher).to(tl.int32), 0) >= wanted:
                floor = higher
    mass = tl.where(order >= floor, tl.exp(x - top), 0.0)

    if top_p < 1:  # keep what has less than top_p of the mass above it
        share = top_p * tl.sum(mass.to(tl.float64), 0)
        mass_bits = mass.to(tl.int32, bitcast=True)  # ≥ 0, so in order
        below = tl.full((), 0, tl.int32)  # the largest that is not kept
        for i in range(31):
            higher = below + (1 << (30 - i))
            above = tl.sum(tl.where(mass_bits > higher, mass, 0.0).to(tl.float64), 0)
            if above >= share:
                below = higher
        mass = tl.where(mass_bits > below, mass, 0.0)

    wide = mass.to(tl.float64)
    target = uniform * tl.sum(wide, 0)
    # A parallel sum need not rise with every step: only what has mass may be chosen.
    first = tl.min(tl.where((tl.cumsum(wide, 0) > target) & (mass > 0), at, BLOCK), 0)
    last = tl.max(tl.where(mass > 0, at, -1), 0)
    choice = tl.where(first < BLOCK, first, last)
    choice = tl.where(is_greedy, likeliest, choice)
    tl.store(choices + row, tl.where(is_bad, -1, choice))


class DrawKernel:
    """Draws rows of logits on the device that `masks` are on.

    masks: float32 (4, width), contiguous, 0 or −∞; read anew in each draw.
    """

    def __init__(self, masks: Tensor) -> None:
        self._masks = masks
        self._reserve(64)
        if masks.is_cuda:  # compiled now rather than in the first draw
            self(masks[:1], [(1.0, 0.5, 1.0, 1, 0, -1, False, 0)])

    def __call__(self, logits: Tensor, controls: Sequence[Sequence[float]]) -> list[int]:
        """float32 (m, width) and n rows of `N_CONTROLS` numbers → n choices; −1: not finite."""
        n = len(controls)
        if n > len(self._host):
            self._reserve(n)
        # The draw before this one has been waited for, so nothing reads these buffers any more.
        self._numbers[:n] = controls
        self._controls[:n].copy_(self._host[:n], non_blocking=True)
        width = self._masks.shape[1]
        _draw[(n,)](
            logits,
            logits.stride(0),
            self._masks,
            self._controls,
            self._choices,
            WIDTH=width,
            BLOCK=triton.next_power_of_2(width),
            num_warps=_WARPS,
        )
        self._drawn[:n].copy_(self._choices[:n], non_blocking=True)
        if self._choices.is_cuda:
            torch.cuda.current_stream(self._choices.device).synchronize()
        return self._drawn[:n].tolist()

    def _reserve(self, n: int) -> None:
        device = self._masks.device
        pinned = device.type == "cuda"
        self._host = torch.zeros(n, N_CONTROLS, dtype=torch.float64, pin_memory=pinned)
        self._numbers: np.ndarray = self._host.numpy()
        self._controls = torch.zeros(n, N_CONTROLS, dtype=torch.float64, device=device)
        self._choices = torch.zeros(n, dtype=torch.int32, device=device)
        self._drawn = torch.zeros(n, dtype=torch.int32, pin_memory=pinned)
