# pyright: basic
"""Keys and values of prompt prefixes that were computed before: a byte-bounded LRU.

Knows no slot and no model. The model has no rotary positions and a prefix starts at position 0, so
what was computed for the same token ids is right, bit for bit, wherever it is copied.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from torch import Tensor

from pipeline.contracts import Int32Array


def prefix_length(prompt: Int32Array, stop_id: int) -> int:
    """Tokens of a prompt's first turn, its end included: what all requests in a voice share.

    0 where no turn ends before the last token, which is run by the first step.
    """
    ends = np.flatnonzero(prompt[:-1] == stop_id)
    return int(ends[0]) + 1 if len(ends) else 0


class PrefixCache:
    """Least recently used prefixes go first.

    Owned by the engine's worker; the counters may be read from any thread.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self.n_bytes = self.hits_total = self.misses_total = 0

    def get(self, ids: Int32Array) -> Tensor | None:
        """What `put` was given for exactly these ids."""
        kept = self._kept.get(ids.tobytes())
        if kept is None:
            self.misses_total += 1
            return None
        self._kept.move_to_end(ids.tobytes())
        self.hits_total += 1
        return kept

    def wants(self, ids: Int32Array, n_bytes: int) -> bool:
        """Whether `put` would keep something new for these ids."""
        return n_bytes <= self._max_bytes and ids.tobytes() not in self._kept

    def put(self, ids: Int32Array, kept: Tensor) -> None:
        """Keep a tensor that is wanted; the least recently used make room."""
        if not self.wants(ids, kept.nbytes):
            return
        self._kept[ids.tobytes()] = kept
        self.n_bytes += kept.nbytes
        while self.n_bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.n_bytes -= oldest.nbytes
