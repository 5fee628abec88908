"""L1: the byte budget holds, the least recently used goes first, and operations stay O(1)."""

from __future__ import annotations

import threading
import time

import pytest

from cache_store.memory import MemoryTier

pytestmark = pytest.mark.unit


def test_the_least_recently_used_goes_first():
    tier = MemoryTier[str](30)
    for name in "abc":
        tier.put(name, name, 10)
    assert tier.get("a") == "a"
    tier.put("d", "d", 10)
    assert [tier.get(name) for name in "abcd"] == ["a", None, "c", "d"]
    stats = tier.stats()
    assert (stats.entries, stats.bytes, stats.evictions) == (3, 30, 1)


def test_replacing_and_discarding_keep_the_count():
    tier = MemoryTier[str](100)
    tier.put("a", "x", 40)
    tier.put("a", "y", 60)
    assert tier.get("a") == "y"
    assert tier.stats().bytes == 60
    assert tier.discard("a")
    assert not tier.discard("a")
    assert tier.stats().bytes == 0
    tier.put("a", "x", 40)
    tier.clear()
    assert (tier.stats().entries, tier.stats().bytes) == (0, 0)


def test_what_exceeds_the_whole_budget_is_refused_and_evicts_nothing():
    tier = MemoryTier[str](10)
    tier.put("a", "a", 10)
    tier.put("b", "b", 11)
    assert tier.get("b") is None
    assert tier.get("a") == "a"
    assert tier.stats().refusals == 1


def test_the_budget_holds_under_threads():
    tier = MemoryTier[int](1000)

    def work(seed: int) -> None:
        for i in range(5000):
            name = str((i * seed) % 300)
            if tier.get(name) is None:
                tier.put(name, i, 1 + i % 50)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 7, 11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = tier.stats()
    assert 0 < stats.bytes <= 1000
    drained = sum(tier.discard(str(name)) for name in range(300))
    assert drained == stats.entries
    assert tier.stats().bytes == 0


def test_time_per_operation_does_not_grow_with_entries():
    def per_get_s(entries: int) -> float:
        tier = MemoryTier[int](entries)
        names = [f"{i:064x}" for i in range(entries)]
        for name in names:
            tier.put(name, 1, 1)
        best = float("inf")
        for _ in range(20):
            started = time.thread_time()
            for name in names[:1000]:
                tier.get(name)
            best = min(best, time.thread_time() - started)
        return best / 1000

    small, large = per_get_s(1_000), per_get_s(50_000)
    assert large < 10 * small  # a list-based LRU is 50 times slower here
    assert large < 200e-6
