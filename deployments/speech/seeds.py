"""Seeds that follow from what is asked for."""

from __future__ import annotations

from cache_store.keys import digest

SEED_BITS = 63


def derived_seed(kind: str, said: str) -> int:
    """The same for the same words. kind: what follows from them."""
    return int(digest(kind, said.encode()), 16) % 2**SEED_BITS
