# pyright: basic
"""What the vocoder derived from a voice, kept for its next stream: a byte-bounded LRU.

Holds values that never change. Only what is exact is kept: the flow's first caches depend on the
first rows that follow the prompt, so those rows are part of their key.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from blake3 import blake3
from torch import Tensor

from pipeline.contracts import VoicePrompt

Value = TypeVar("Value")


class PromptMemory:
    """Values by key, the least recently used dropped first. For any thread.

    max_bytes: of all tensors kept; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.used_bytes = 0
        self.hits = 0

    def may_keep(self, size_bytes: int) -> bool:
        """Whether a value of this size would be kept at all."""
        return size_bytes <= self._max_bytes

    def get_or_make(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value kept for `key`, else what `make` gives. What `make` raises passes through."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                self.hits += 1
                return self._entries[key][0]
        value = make()
        self._keep(key, value, tensor_bytes(value))
        return value

    def _keep(self, key: Hashable, value: object, size_bytes: int) -> None:
        if not self.may_keep(size_bytes):
            return
        with self._lock:
            if key in self._entries:  # made twice at the same time: equal values
                return
            self._entries[key] = (value, size_bytes)
            self.used_bytes += size_bytes
            while self.used_bytes > self._max_bytes:
                _, (_, dropped_bytes) = self._entries.popitem(last=False)
                self.used_bytes -= dropped_bytes


def voice_key(voice: VoicePrompt) -> bytes:
    """Digest of all that the vocoder reads of a voice."""
    digest = blake3()
    for array in (voice.vq02, voice.vq06, voice.prompt_mel, voice.speaker_embedding):
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.digest()


def tensor_bytes(value: object) -> int:
    """Bytes of all tensors in nested tuples and dataclasses."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, tuple):
        return sum(tensor_bytes(part) for part in value)
    if is_dataclass(value):
        return sum(tensor_bytes(getattr(value, field.name)) for field in fields(value))
    return 0
