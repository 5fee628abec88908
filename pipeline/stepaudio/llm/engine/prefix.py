# pyright: basic
"""A byte-bounded LRU of computed keys and values of prompt prefixes.

The model has no rotary positions and a prefix starts at position 0, so the values of equal token
ids are equal, bit for bit, in any slot. Tenants share none all the same: see
pipeline.serving.clip_names.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.contracts import Int32Array
from pipeline.forgotten import Forgotten
from pipeline.serving.clip_names import tenant_of


def prefix_length(prompt: Int32Array, stop_id: int) -> int:
    """Length of a prompt's first turn with its end: the part that requests in a voice share.

    0 when no turn ends before the last token, which the first step runs.
    """
    ends = np.flatnonzero(prompt[:-1] == stop_id)
    return int(ends[0]) + 1 if len(ends) else 0


_Key = tuple[str, bytes]  # tenant, ids


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    tensor: Tensor
    voice: str


class PrefixCache:
    """Drops the least recently used prefixes first. Safe from any thread."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._forgotten = Forgotten()
        self.n_bytes = self.hits_total = self.misses_total = 0

    def get(self, ids: Int32Array, voice: str = "") -> Tensor | None:
        """The tensor that was put for exactly these ids, by the tenant of the voice."""
        key = _key(ids, voice)
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                self.misses_total += 1
                return None
            self._kept.move_to_end(key)
            self.hits_total += 1
            return kept.tensor

    def held(self, ids: Int32Array, voice: str = "") -> Tensor | None:
        """The same, without counting as use."""
        with self._lock:
            kept = self._kept.get(_key(ids, voice))
            return None if kept is None else kept.tensor

    def wants(self, ids: Int32Array, n_bytes: int, voice: str = "") -> bool:
        """Whether these ids are new and would be kept."""
        with self._lock:
            return self._wants(ids, n_bytes, voice)

    def put(self, ids: Int32Array, kept: Tensor, voice: str = "") -> None:
        """Keep a tensor; the least recently used ones are dropped for it.

        voice: its speaker name, for `forget`.
        """
        with self._lock:
            if not self._wants(ids, kept.nbytes, voice):
                return
            self._kept[_key(ids, voice)] = _Kept(kept, voice)
            self.n_bytes += kept.nbytes
            while self.n_bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self.n_bytes -= oldest.tensor.nbytes

    def forget(self, voice: str) -> None:
        """Drop the prefixes of a voice, and keep none that running requests compute."""
        with self._lock:
            self._forgotten.add(voice)
            for key in [key for key, kept in self._kept.items() if kept.voice == voice]:
                self.n_bytes -= self._kept.pop(key).tensor.nbytes

    def _wants(self, ids: Int32Array, n_bytes: int, voice: str) -> bool:
        is_new = n_bytes <= self._max_bytes and _key(ids, voice) not in self._kept
        return is_new and voice not in self._forgotten


def _key(ids: Int32Array, voice: str) -> _Key:
    return tenant_of(voice), ids.tobytes()
