# pyright: basic
"""What the vocoder derived from a voice, kept for its next stream: a byte-bounded LRU.

Holds values that never change. What of them depends on more than the voice has that in its key.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from blake3 import blake3
from torch import Tensor

from pipeline.contracts import VoicePrompt
from pipeline.forgotten import Forgotten
from pipeline.serving.clip_names import tenant_of

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    value: Any
    size_bytes: int
    owner: str


class PromptMemory:
    """Values by key, the least recently used dropped first. For any thread.

    max_bytes: of all tensors kept; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._forgotten = Forgotten()
        self.used_bytes = 0
        self.hits = 0

    def may_keep(self, size_bytes: int) -> bool:
        """Whether a value of this size would be kept at all."""
        return size_bytes <= self._max_bytes

    def get_or_make(self, key: Hashable, make: Callable[[], Value], owner: str = "") -> Value:
        """The value kept for `key`, else what `make` gives. What `make` raises passes through.

        owner: whose it is, for `forget`.
        """
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                self.hits += 1
                return self._entries[key].value
        value = make()
        self._keep(key, _Kept(value, tensor_bytes(value), owner))
        return value

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._entries

    def forget(self, owner: str) -> None:
        """Drop the owner's values, and keep none that is being made."""
        with self._lock:
            self._forgotten.add(owner)
            for key in [key for key, kept in self._entries.items() if kept.owner == owner]:
                self.used_bytes -= self._entries.pop(key).size_bytes

    def _keep(self, key: Hashable, made: _Kept) -> None:
        if not self.may_keep(made.size_bytes):
            return
        with self._lock:
            if key in self._entries:  # made twice at the same time: equal values
                return
            if made.owner in self._forgotten:
                return
            self._entries[key] = made
            self.used_bytes += made.size_bytes
            while self.used_bytes > self._max_bytes:
                _, oldest = self._entries.popitem(last=False)
                self.used_bytes -= oldest.size_bytes


@dataclass(frozen=True, slots=True)
class OwnedMemory:
    """A PromptMemory for the values of one owner; tenants meet none of another's."""

    memory: PromptMemory
    owner: str

    def may_keep(self, size_bytes: int) -> bool:
        """See PromptMemory."""
        return self.memory.may_keep(size_bytes)

    def __contains__(self, key: Hashable) -> bool:
        return self._of_tenant(key) in self.memory

    def get_or_make(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """See PromptMemory."""
        return self.memory.get_or_make(self._of_tenant(key), make, self.owner)

    def _of_tenant(self, key: Hashable) -> Hashable:
        tenant = tenant_of(self.owner)
        return (tenant, key) if tenant else key


def voice_key(voice: VoicePrompt) -> bytes:
    """Digest of all that the vocoder reads of a voice."""
    digest = blake3()
    for array in (voice.vq02, voice.vq06, voice.prompt_mel, voice.speaker_embedding):
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.digest()


def state_key(voice: bytes) -> Hashable:
    """Of a voice's `VoiceState`; voice: its `voice_key`."""
    return voice, "state"


def tensor_bytes(value: object) -> int:
    """Bytes of all tensors in nested tuples and dataclasses."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, tuple):
        return sum(tensor_bytes(part) for part in value)
    if is_dataclass(value):
        return sum(tensor_bytes(getattr(value, field.name)) for field in fields(value))
    return 0
