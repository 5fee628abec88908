# pyright: basic
"""Measures at start-up which batch and chunk shapes are bit-exact on this machine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CHUNK_SIZES = (*range(1, 33), 48, 64)  # of prefill


def exact_batch(run: Callable[[range], Tensor], n_slots: int) -> int:
    """The smallest batch size from which a row's bits no longer depend on the batch.

    `run` returns one row for each slot of a window. Where rows never agree, as on devices that
    choose kernels by batch size, it is all slots: one fixed shape.
    """
    whole = run(range(n_slots))
    n = n_slots
    while n > 1 and all(
        torch.equal(run(range(i, i + n - 1)), whole[i : i + n - 1]) for i in range(n_slots - n + 2)
    ):
        n -= 1
    return n


def keys_may_be_cut(run: Callable[[int, int], Tensor], n_keys: int, step: int) -> bool:
    """Whether a row's bits are independent of the number of masked keys read behind its own.

    `run` takes a position and the number of keys to read, in multiples of `step`.
    """
    for position in range(step - 1, n_keys, step):
        whole = run(position, n_keys)
        if not all(torch.equal(run(position, n), whole) for n in range(position + 1, n_keys, step)):
            return False
    return True


def exact_chunks(run: Callable[[range], Tensor], n_tokens: int) -> tuple[int, ...]:
    """Chunk sizes of prefill, ascending, whose rows equal those of one row at a time, bit for bit.

    `run` takes positions below `n_tokens`. 1 is always among them, so any length can be composed.
    """
    starts = (0, n_tokens // 2, max(n_tokens - _CHUNK_SIZES[-1], 0))
    singles = {i: run(range(i, i + 1)) for s in starts for i in range(s, s + _CHUNK_SIZES[-1])}

    def is_exact(start: int, size: int) -> bool:
        alone = torch.cat([singles[i] for i in range(start, start + size)])
        return torch.equal(run(range(start, start + size)), alone)

    return tuple(n for n in _CHUNK_SIZES if all(is_exact(start, n) for start in starts))
