"""The comparison with an older commit: what it prints of pairs, and that a child runs anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from load_tests.bench import beside_commit
from load_tests.bench.beside_commit import Measured, NotMeasuredError, Pair, measured, rows_of
from load_tests.bench.beside_measures import MEASURES, moved

pytestmark = pytest.mark.unit


def pair(old: float, new: float) -> Pair:
    return Pair(Measured(old, old / 2, "s"), Measured(new, new / 4, "s"))


def test_a_ratio_is_the_median_of_pairs_and_not_of_sides() -> None:
    """A slow minute of the machine that hits one pair alone moves sides, not the ratio."""
    rows = {row.what: row.value for row in rows_of("x", [pair(2, 1), pair(60, 20), pair(3, 1.5)])}
    assert rows["x: old"] == 3
    assert rows["x: new"] == 1.5
    assert rows["x: old / new, 2.00 to 3.00"] == 2
    assert rows["x, CPU: old / new, 4.00 to 6.00"] == 4


def test_a_name_is_found_where_it_is_now_or_was() -> None:
    assert moved("Path", "no.such.module", "pathlib") is Path
    with pytest.raises(ModuleNotFoundError, match=r"Path is in none of no\.such, nor\.this"):
        moved("Path", "no.such", "nor.this")


@pytest.mark.slow
def test_what_a_tree_cannot_do_is_said_and_not_raised(tmp_path: Path) -> None:
    """Here: a tree without the package, which may be installed from another one."""
    with pytest.raises(NotMeasuredError, match=r"not of this tree|No module named 'pipeline'"):
        measured(tmp_path, next(iter(MEASURES)), sorted(os.sched_getaffinity(0))[:1])


def test_an_unknown_commit_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(SystemExit, match="cannot check out no-such-commit"),
        beside_commit.checked_out("no-such-commit"),
    ):
        pass
