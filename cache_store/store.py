"""The Protocol of L3's backends: immutable objects below one root, by path."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

TMP = "tmp"
QUARANTINE = "quarantine"
REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS}  # an operator must act
MAX_QUARANTINED = 100  # kept per process for inspection; further damaged objects are only deleted


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """An object of a store."""

    path: str
    """Below the root, `/`-separated."""
    size_bytes: int
    modified_unix_s: float
    """Last write, or last use, exact to a day."""


class BlobStore(Protocol):
    """Immutable objects by path. Every method blocks: never call it from an event loop.

    Raises StoreError when the backend fails, StoreDenied when credentials or policy refuse.
    """

    def get(self, path: str, max_bytes: int) -> bytes | None:
        """The object's first max_bytes + 1 bytes in one request, or None when it is absent."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Publish atomically; False, and nothing changed, when the object exists."""
        ...

    def delete(self, path: str) -> None:
        """Remove the object, if it exists."""
        ...

    def quarantine(self, path: str, data: bytes) -> None:
        """Free a damaged object's name, and keep a copy of it (or its bytes `data`)."""
        ...

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Objects below a directory prefix, in no order."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Names directly below a directory prefix, of objects and directories, in no order."""
        ...


def aside_name(path: str) -> str:
    """A fresh name for a copy of the object in TMP or QUARANTINE."""
    return f"{path.replace('/', '_')}.{uuid.uuid4().hex[:8]}"


def is_aside(name: str, path: str) -> bool:
    """Whether `aside_name` may have made the name for this object."""
    return name.rpartition(".")[0] == path.replace("/", "_")
