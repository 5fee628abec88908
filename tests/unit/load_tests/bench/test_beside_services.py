"""Services of two trees beside each other, as far as that needs no service."""

from __future__ import annotations

import pytest

from load_tests.bench.beside_services.__main__ import rows_of

pytestmark = pytest.mark.unit


def test_ratios_are_of_one_turns_two_trees() -> None:
    old = [{"first": (0.8, "s"), "dry": (3, "")}, {"first": (0.4, "s"), "dry": (4, "")}]
    new = [{"first": (0.2, "s"), "dry": (0, "")}, {"first": (0.2, "s"), "dry": (0, "")}]
    found = {row.what: row.value for row in rows_of(old, new)}
    assert found == pytest.approx(
        {
            "first: old": 0.6,
            "first: new": 0.2,
            "first: old / new, 2.00 to 4.00": 3.0,
            "dry: old": 3.5,
            "dry: new": 0,
        }
    )


def test_what_one_tree_does_not_measure_is_left_out() -> None:
    assert not rows_of([{"old only": (1, "s")}], [{"new only": (1, "s")}])
