"""The measurement of what a clock tells one tenant of another: it finds what is there."""

from __future__ import annotations

import math

import numpy as np
import pytest

from load_tests.bench.tenants.__main__ import asked, compared, told_in
from load_tests.bench.tenants.asks import ENCODED, SPOKEN
from load_tests.bench.tenants.places import CPU, WALL, in_process
from load_tests.bench.tenants.ranks import compare

pytestmark = pytest.mark.unit


def times_s(n: int, seed: int, delay_s: float = 0.0) -> list[float]:
    """Of a busy machine: a thousandth of a second, and now and then ten."""
    chance = np.random.default_rng(seed)
    return list(1e-3 + delay_s + chance.gamma(1.0, 1e-4, n) + 9e-3 * (chance.random(n) < 0.05))


def test_a_delay_is_told_and_chance_is_not():
    nobodys_s = times_s(400, 1)
    same = compare(times_s(400, 2), nobodys_s, 40)
    assert (same.is_told, abs(same.effect) < 0.15) == (False, True)
    delayed = compare(times_s(400, 2, 1e-4), nobodys_s, 40)
    assert delayed.is_told
    assert delayed.effect > 0.3
    assert compare(times_s(400, 2, -1e-4), nobodys_s, 40).effect < -0.3


def test_the_delay_that_would_have_been_told_is_the_least():
    nobodys_s = times_s(400, 3)
    least_s = compare(times_s(400, 4), nobodys_s, 40).found_from_s
    assert 1e-6 < least_s < 1e-4
    for share, is_told in ((0.9, False), (1.1, True)):
        delayed = compare(times_s(400, 4, share * least_s), nobodys_s, 40)
        assert delayed.is_told == is_told
    assert compare(times_s(3, 5), times_s(3, 6), 40).found_from_s == math.inf


@pytest.mark.slow
async def test_tenants_of_one_namespace_are_told_of_each_others_clips_and_speech():
    """The leak that the measurement is for, planted: twenty requests each are enough."""
    async with in_process() as place:
        kinds = await asked(place, ("both", "both"), rounds=0, pairs=20)
    times = compared(kinds)
    assert times.keys() == {WALL, CPU}
    assert told_in(times) == {ENCODED, SPOKEN}
    for kind in (ENCODED, SPOKEN):
        assert times[CPU][kind].theirs_s < times[CPU][kind].nobodys_s
