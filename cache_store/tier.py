"""The seam between VoiceCache and everything below its process memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cache_store.keys import ClipKey, EntryKey


class Tier(Protocol):
    """Entries (unverified bytes) by key. Never blocks the loop, never outlasts its deadline.

    Raises StoreError for whatever the tier could not do; the caller counts it and goes on.
    """

    @property
    def name(self) -> str:
        """What metrics, logs and `X-Cache` call it: l2, l3."""
        ...

    @property
    def is_durable(self) -> bool:
        """An entry in it survives the cluster."""
        ...

    async def start(self) -> None:
        """Make ready what would make a first request slow."""
        ...

    async def get(self, key: EntryKey) -> bytes | None:
        """The entry, or None when the tier does not have it."""
        ...

    def offer(self, key: EntryKey, entry: bytes) -> None:
        """Publish in the background, if there is room."""
        ...

    async def put(self, key: EntryKey, entry: bytes) -> None:
        """Publish now; there when it returns."""
        ...

    def reject(self, key: EntryKey, entry: bytes) -> None:
        """The entry turned out damaged: take it out of the way, before any later put of the key."""
        ...

    async def forget(self, clip: ClipKey) -> None:
        """Remove every entry of the clip, offered and half-written ones too; none comes back.

        Raises StoreError when one may be left or may still come.
        """
        ...

    async def close(self, deadline_s: float) -> None:
        """Write what was offered, as far as the deadline allows, and stop."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Numbers for metrics."""
        ...

    def unhealthy_tiers(self) -> Mapping[str, str]:
        """What is set aside at the moment, and why; empty when all is well."""
        ...
