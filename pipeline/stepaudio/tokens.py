"""Arithmetic of audio tokens: codebook offsets and the 2:3 interleave, with their inverses.

A group covers 120 ms: two vq02 (linguistic, 16.67 Hz) then three vq06 (semantic, 25 Hz) codes.
Audio token ids run from 0: vq02 code c is c, vq06 code c is 1024 + c. The LLM's ids add
`audio_base`, the id of `<audio_0>`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts import GROUP_TOKENS, GROUP_VQ02, GROUP_VQ06

VQ02_CODES = 1024
VQ06_CODES = 4096
AUDIO_TOKENS = VQ02_CODES + VQ06_CODES
GROUP_ROWS = 3  # time-aligned rows at 25 Hz that the vocoder sees for a group
ROW_PAD = VQ02_CODES  # column 0 of a row without a vq02 code
ROW_VQ06_OFFSET = VQ02_CODES + 1  # column 1 is this plus the vq06 code

IntArray = NDArray[np.int32]


def interleave(vq02: NDArray[np.integer], vq06: NDArray[np.integer]) -> IntArray:
    """Codes → audio tokens.

    (n,), (m,) → int32 (5k,) with k = min(n // 2, m // 3); a partial group is dropped.
    """
    n_groups = min(len(vq02) // GROUP_VQ02, len(vq06) // GROUP_VQ06)
    groups = np.empty((n_groups, GROUP_TOKENS), np.int32)
    groups[:, :GROUP_VQ02] = vq02[: n_groups * GROUP_VQ02].reshape(n_groups, GROUP_VQ02)
    groups[:, GROUP_VQ02:] = vq06[: n_groups * GROUP_VQ06].reshape(n_groups, GROUP_VQ06)
    groups[:, GROUP_VQ02:] += VQ02_CODES
    return groups.reshape(-1)


def deinterleave(ids: NDArray[np.integer]) -> tuple[IntArray, IntArray]:
    """Audio tokens of whole groups → (vq02 (2k,), vq06 (3k,)). The inverse of `interleave`.

    Raises ValueError when the length is no multiple of five or an id stands in the wrong codebook's
    place.
    """
    if len(ids) % GROUP_TOKENS:
        raise ValueError(f"{len(ids)} audio tokens are not whole groups of {GROUP_TOKENS}")
    groups = np.asarray(ids, np.int32).reshape(-1, GROUP_TOKENS)
    vq02, vq06 = groups[:, :GROUP_VQ02], groups[:, GROUP_VQ02:] - VQ02_CODES
    if ((vq02 < 0) | (vq02 >= VQ02_CODES)).any() or ((vq06 < 0) | (vq06 >= VQ06_CODES)).any():
        raise ValueError("an audio token stands where the other codebook belongs")
    return vq02.reshape(-1), vq06.reshape(-1)


def to_rows(ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """Audio tokens (5k,) → the vocoder's time-aligned rows int64 (3k, 2).

    (vq02 or PAD, 1025 + vq06).
    """
    groups = np.asarray(ids, np.int64).reshape(-1, GROUP_TOKENS)
    rows = np.full((len(groups), GROUP_ROWS, 2), ROW_PAD, np.int64)
    rows[:, :GROUP_VQ02, 0] = groups[:, :GROUP_VQ02]
    rows[:, :, 1] = groups[:, GROUP_VQ02:] - VQ02_CODES + ROW_VQ06_OFFSET
    return rows.reshape(-1, 2)


def is_vq02_position(index: int) -> bool:
    """Whether position `index` of a stream that starts with a group holds a vq02 code."""
    return index % GROUP_TOKENS < GROUP_VQ02
