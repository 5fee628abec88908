"""Caches as they keep things, against Che's approximation."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.capacity.known import (
    RECORD_BYTES,
    UNBOUNDED,
    Budgets,
    GivenRates,
    KeptByTiers,
    hit_rates,
    popularity,
)

pytestmark = pytest.mark.unit
SIZE_BYTES = 100_000


@pytest.mark.parametrize("held", [50, 400])
@pytest.mark.parametrize("exponent", [0.7, 1.1])
def test_memory_hits_as_often_as_che_says(held: int, exponent: float):
    shares = popularity(2_000, exponent)
    names = np.random.default_rng(3).choice(len(shares), 30_000, p=shares).tolist()
    budgets = Budgets(held * (SIZE_BYTES + RECORD_BYTES), 0, 0)
    rates = hit_rates(KeptByTiers(budgets, None, 1), "voice", names, SIZE_BYTES, 1)
    assert rates["l1"] == pytest.approx(che_hit_rate(shares, held), abs=0.01)
    assert set(rates) == {"l1", "miss"}


def test_what_one_router_made_another_finds_in_the_cluster_and_then_has_itself():
    tiers = KeptByTiers(Budgets(10**6, 10**6, None), None, routers=2)
    assert tiers.find("voice", "a", 0) is None
    tiers.keep("voice", "a", 1_000, 0)
    assert [tiers.find("voice", "a", router) for router in (0, 1, 1)] == ["l1", "l2", "l1"]
    assert tiers.find("speech", "a", 0) is None


def test_all_that_fits_is_kept():
    assert che_hit_rate(popularity(10, 1.0), 10) == 1.0
    assert UNBOUNDED > 10**15


def test_given_rates_are_kept_to():
    given = GivenRates(0.7, 0.2, seed=1)
    for what, rate in (("voice", 0.7), ("speech", 0.2)):
        found = [given.find(what, "x", 0) is not None for _ in range(4_000)]
        assert sum(found) / len(found) == pytest.approx(rate, abs=0.03)


def che_hit_rate(shares: np.ndarray, capacity: float) -> float:
    """Che's approximation: of an LRU that holds `capacity` of things of one size.

    Each is there with 1 − exp(−share × t), where t is such that `capacity` of them are.
    """
    if capacity >= len(shares):
        return 1.0
    low, high = 0.0, 1.0
    while (1 - np.exp(-shares * high)).sum() < capacity:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if (1 - np.exp(-shares * middle)).sum() < capacity:
            low = middle
        else:
            high = middle
    return float((shares * (1 - np.exp(-shares * high))).sum())
