"""What is known of voices and of speech: at given rates, or as the cache's own tiers keep it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from cache_store.memory import MemoryTier

What = Literal["voice", "speech"]
Tier = Literal["l1", "l2", "l3"]

RECORD_BYTES = 64 + 3_000  # of a record, beside its arrays, as memory counts it
VOICE_BYTES_S = 50 * 80 * 4 + 17 * 2 + 25 * 2  # of a clip: mel at 50 Hz, codes
SPEECH_BYTES_S = 24_000 * 2  # of speech: 16 bits at 24 kHz


class Knowledge(Protocol):
    """Whether something is known, and that it is from now on."""

    def find(self, what: What, name: str, router: int) -> Tier | None:
        """The nearest tier that has it; None has to be made."""
        ...

    def keep(self, what: What, name: str, size_bytes: int, router: int) -> None:
        """It was made by a router."""
        ...


class GivenRates:
    """Hits at given rates, by chance, whoever asks for what."""

    def __init__(self, voice: float, speech: float, seed: int = 0) -> None:
        self._rates = {"voice": voice, "speech": speech}
        self._dice = np.random.default_rng(seed)

    def find(self, what: What, name: str, router: int) -> Tier | None:
        del name, router
        return "l1" if self._dice.random() < self._rates[what] else None

    def keep(self, what: What, name: str, size_bytes: int, router: int) -> None:
        del what, name, size_bytes, router


@dataclass(frozen=True, slots=True)
class Budgets:
    """Bytes of one cache: of every router's memory, of the cluster's, and of the store.

    None: no bound, as of a bucket that nothing is deleted from.
    """

    l1_bytes: int
    l2_bytes: int
    l3_bytes: int | None


UNBOUNDED = 1 << 62


class _Tiers:
    """One cache: the tiers that the service has, each the very map that keeps it there.

    The store's own order (oldest use first, looked at now and then) is taken to be exact.
    """

    def __init__(self, budgets: Budgets, routers: int) -> None:
        self._l1 = [MemoryTier[int](budgets.l1_bytes) for _ in range(routers)]
        most = UNBOUNDED if budgets.l3_bytes is None else budgets.l3_bytes
        self._below: Sequence[tuple[Tier, MemoryTier[int]]] = (
            ("l2", MemoryTier[int](budgets.l2_bytes)),
            ("l3", MemoryTier[int](most)),
        )

    def find(self, name: str, router: int) -> Tier | None:
        if self._l1[router].get(name) is not None:
            return "l1"
        for tier, held in self._below:
            size_bytes = held.get(name)
            if size_bytes is not None:
                self.keep(name, size_bytes, router)
                return tier
        return None

    def keep(self, name: str, size_bytes: int, router: int) -> None:
        self._l1[router].put(name, size_bytes, size_bytes + RECORD_BYTES)
        for _, held in self._below:
            held.put(name, size_bytes, size_bytes)


class KeptByTiers:
    """Voices and speech in the tiers of their caches."""

    def __init__(self, voices: Budgets, speech: Budgets | None, routers: int) -> None:
        """speech: None where none is kept."""
        self._caches = {"voice": _Tiers(voices, routers)}
        if speech is not None:
            self._caches["speech"] = _Tiers(speech, routers)

    def find(self, what: What, name: str, router: int) -> Tier | None:
        cache = self._caches.get(what)
        return None if cache is None else cache.find(name, router)

    def keep(self, what: What, name: str, size_bytes: int, router: int) -> None:
        cache = self._caches.get(what)
        if cache is not None:
            cache.keep(name, size_bytes, router)


def hit_rates(
    knowledge: Knowledge, what: What, names: Sequence[int], size_bytes: int, routers: int
) -> dict[str, float]:
    """Shares of requests by the tier that answered, once the first half has filled the caches.

    names: what is asked for, one request each, of routers in turn.
    """
    counts = dict[str, int]()
    begin = len(names) // 2
    for number, one in enumerate(names):
        router = number % routers
        tier = knowledge.find(what, str(one), router)
        if tier is None:
            knowledge.keep(what, str(one), size_bytes, router)
        if number >= begin:
            counts[tier or "miss"] = counts.get(tier or "miss", 0) + 1
    return {tier: n / (len(names) - begin) for tier, n in counts.items()}


def popularity(count: int, exponent: float) -> np.ndarray:
    """Zipf's shares of `count` things, the most popular first, float64; they sum to 1."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()
