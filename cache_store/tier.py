"""The Protocol of the tiers below VoiceCache's process memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cache_store.keys import ClipKey, EntryKey


class Tier(Protocol):
    """Entries (unverified bytes) by key. Never blocks the loop, never outlasts its deadline.

    Raises StoreError when the tier fails; the caller counts it and continues.
    """

    @property
    def name(self) -> str:
        """Its name in metrics, logs and `X-Cache`: l2, l3."""
        ...

    @property
    def is_durable(self) -> bool:
        """Whether its entries survive the cluster."""
        ...

    async def start(self) -> None:
        """Connect, so that the first request does not wait for it."""
        ...

    async def get(self, key: EntryKey) -> bytes | None:
        """The entry, or None when the tier does not have it."""
        ...

    def offer(self, key: EntryKey, entry: bytes) -> None:
        """Publish in the background, if there is room."""
        ...

    async def put(self, key: EntryKey, entry: bytes) -> None:
        """Publish before it returns."""
        ...

    def reject(self, key: EntryKey, entry: bytes) -> None:
        """Remove a damaged entry, before any later put of its key."""
        ...

    async def forget(self, clip: ClipKey) -> None:
        """Remove every entry of the clip, queued and half-written ones too, for good.

        Raises StoreError when an entry may be left, or may still be written.
        """
        ...

    async def close(self, deadline_s: float) -> None:
        """Write queued entries until the deadline, and stop."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Numbers for metrics."""
        ...

    def unhealthy_tiers(self) -> Mapping[str, str]:
        """Its unhealthy parts by name, each with the reason; empty when all is well."""
        ...
