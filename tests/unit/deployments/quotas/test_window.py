"""A window never holds more than its limit, and what is owed is paid by waiting."""

from __future__ import annotations

import random

import pytest

from deployments.quotas.window import Window

pytestmark = pytest.mark.unit


def test_what_was_spent_leaves_after_the_window():
    window = Window(60, 10)
    window.spend(4, 100.0)
    window.spend(5, 130.0)
    assert window.used(159.9) == 9
    assert window.used(161.0) == 5
    assert window.used(191.0) == 0
    assert window.reset_s(300.0) == 0


def test_how_long_to_wait():
    window = Window(60, 10)
    window.spend(4, 100.5)
    window.spend(6, 130.5)
    assert window.wait_s(1, 131.0) == pytest.approx(30.0, abs=1)
    assert window.wait_s(5, 131.0) == pytest.approx(60.0, abs=1)
    assert window.reset_s(131.0) == pytest.approx(60.0, abs=1)


def test_what_is_over_the_limit_is_owed_and_paid_as_room_comes_free():
    window = Window(60, 10)
    window.spend(25, 100.0)
    assert window.used(101.0) == 25
    assert window.used(162.0) == 15  # the first ten left, ten of the rest took their place
    assert window.used(223.0) == 5
    assert window.used(284.0) == 0
    assert window.used(1_000.0) == 0


def test_whoever_owes_is_told_the_rounds_that_it_takes():
    window = Window(60, 10)
    window.spend(25, 100.0)
    assert window.wait_s(15.1, 100.0) == pytest.approx(180, abs=61)
    assert window.reset_s(100.0) == pytest.approx(180, abs=2)


def test_idle_time_pays_what_is_owed():
    window = Window(60, 10)
    window.spend(25, 100.0)
    assert window.used(100.0 + 3 * 61) == 0


def test_what_is_given_back_was_never_spent():
    window = Window(60, 10)
    window.spend(3, 100.0)
    window.spend(12, 105.0)
    window.spend(-12, 106.0)
    assert window.used(106.0) == 3
    window.spend(-5, 107.0)
    assert window.used(107.0) == 0


def test_over_time_nobody_gets_more_than_the_limit():
    draw = random.Random(4)  # noqa: S311 - the same each time
    window, now_s, spent = Window(60, 30), 0.0, 0.0
    while now_s < 3_600:
        now_s += draw.uniform(0, 3)
        if window.used(now_s) < 30:
            amount = draw.uniform(0, 50)
            window.spend(amount, now_s)
            spent += amount
    assert spent <= 30 * 61 + 50
    assert spent >= 0.9 * 30 * 60
