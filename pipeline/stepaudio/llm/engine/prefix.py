# pyright: basic
"""Keys and values of prompt prefixes that were computed before: a byte-bounded LRU.

Knows no slot and no model. The model has no rotary positions and a prefix starts at position 0, so
what was computed for the same token ids is right, bit for bit, wherever it is copied.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.contracts import Int32Array
from pipeline.forgotten import Forgotten


def prefix_length(prompt: Int32Array, stop_id: int) -> int:
    """Tokens of a prompt's first turn, its end included: what all requests in a voice share.

    0 where no turn ends before the last token, which is run by the first step.
    """
    ends = np.flatnonzero(prompt[:-1] == stop_id)
    return int(ends[0]) + 1 if len(ends) else 0


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    tensor: Tensor
    voice: str


class PrefixCache:
    """Least recently used prefixes go first. For any thread."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._forgotten = Forgotten()
        self.n_bytes = self.hits_total = self.misses_total = 0

    def get(self, ids: Int32Array) -> Tensor | None:
        """What `put` was given for exactly these ids."""
        with self._lock:
            kept = self._kept.get(ids.tobytes())
            if kept is None:
                self.misses_total += 1
                return None
            self._kept.move_to_end(ids.tobytes())
            self.hits_total += 1
            return kept.tensor

    def wants(self, ids: Int32Array, n_bytes: int, voice: str = "") -> bool:
        """Whether `put` would keep something new for these ids."""
        with self._lock:
            return self._wants(ids, n_bytes, voice)

    def put(self, ids: Int32Array, kept: Tensor, voice: str = "") -> None:
        """Keep a tensor that is wanted; the least recently used make room.

        voice: whose it is, for `forget`.
        """
        with self._lock:
            if not self._wants(ids, kept.nbytes, voice):
                return
            self._kept[ids.tobytes()] = _Kept(kept, voice)
            self.n_bytes += kept.nbytes
            while self.n_bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self.n_bytes -= oldest.tensor.nbytes

    def forget(self, voice: str) -> None:
        """Drop what is kept of a voice, and keep nothing that requests under way bring of it."""
        with self._lock:
            self._forgotten.add(voice)
            for ids in [ids for ids, kept in self._kept.items() if kept.voice == voice]:
                self.n_bytes -= self._kept.pop(ids).tensor.nbytes

    def _wants(self, ids: Int32Array, n_bytes: int, voice: str) -> bool:
        is_new = n_bytes <= self._max_bytes and ids.tobytes() not in self._kept
        return is_new and voice not in self._forgotten
