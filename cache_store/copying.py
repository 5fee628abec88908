"""Copies a store into another one, while either may be in use: all of it, whatever wrote it.

Objects are immutable and created once, so a copy that was interrupted goes on where it ended, and a
second one brings what came meanwhile. What was deleted from the source stays in the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cache_store.errors import StoreError
from cache_store.store import QUARANTINE, TMP, BlobInfo, BlobStore


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did. known: objects that the target had."""

    copied: int = 0
    known: int = 0
    copied_bytes: int = 0


def objects(store: BlobStore) -> Iterator[BlobInfo]:
    """All that a service keeps there; not what it left half written, or set aside."""
    for blob in store.list(""):
        if blob.path.partition("/")[0] not in {TMP, QUARANTINE}:
            yield blob


def copy_objects(source: BlobStore, target: BlobStore, chosen: Iterable[BlobInfo]) -> Copied:
    """Publish each in the target, unless it is there.

    Raises StoreError when a store fails, or when an object was read shorter than it was listed.
    """
    there = {blob.path for blob in objects(target)}
    copied = known = n_bytes = 0
    for blob in chosen:
        if blob.path in there:
            known += 1
            continue
        data = source.get(blob.path, blob.size_bytes)
        if data is None:  # deleted meanwhile
            continue
        if len(data) != blob.size_bytes:
            raise StoreError(f"{blob.path} has {len(data)} bytes, and is listed with others")
        if target.create(blob.path, data):
            copied += 1
            n_bytes += len(data)
        else:
            known += 1
    return Copied(copied, known, n_bytes)
