"""Two commits beside each other: the same loads on the same hardware, number by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from load_tests.gpu.report.markdown import figure, paragraph, table
from load_tests.load.measures import METRICS, Metric
from load_tests.load.results import RefusedResultError

SAME = 0.1  # a smaller change is told as none; two runs of one commit may differ by more
HARDWARE = ("device", "cpus")

Result = Mapping[str, Any]


def comparison(before: Sequence[Result], after: Sequence[Result]) -> list[str]:
    """A page.

    Raises RefusedResultError for results of different hardware, of more than one commit on a side,
    and where no load is in both.
    """
    old, new = _one_commit(before), _one_commit(after)
    pairs = [
        (one, other)
        for one in before
        for other in after
        if one["workload"]["name"] == other["workload"]["name"]
    ]
    if not pairs:
        raise RefusedResultError("the two have no workload in common")
    lines = [f"# {old} and {new}", ""]
    for one, other in pairs:
        lines += _beside(one, other)
    return lines


def _one_commit(results: Sequence[Result]) -> str:
    commits = sorted({str(result["commit"]) for result in results})
    if len(commits) != 1:
        raise RefusedResultError(f"a side of a comparison is one commit; here are {commits}")
    dirty = any(result.get("dirty") for result in results)
    return commits[0] + (" with changes" if dirty else "")


def _beside(one: Result, other: Result) -> list[str]:
    name = one["workload"]["name"]
    for fact in HARDWARE:
        if one[fact] != other[fact]:
            raise RefusedResultError(f"{name}: {fact} is {one[fact]} and {other[fact]}")
    if one["plan"] != other["plan"]:
        raise RefusedResultError(
            f"{name}: the two were not of the same calls at the same moments; give both runs the "
            "same --saturation, --scale, --duration and --seed"
        )
    rows = [row for metric in METRICS if (row := _row(metric, one, other)) is not None]
    about = (
        f"{one['summary']['calls']} calls; {one['date']} and {other['date']}; {one['device']}, "
        f"{one['cpus']} cores. Conditions: {one.get('conditions') or 'quiet'}; "
        f"{other.get('conditions') or 'quiet'}."
    )
    return [
        f"## {name}",
        "",
        *paragraph(about),
        *table(["", "unit", str(one["commit"]), str(other["commit"]), "ratio", ""], rows, left=2),
    ]


def _row(metric: Metric, one: Result, other: Result) -> list[str] | None:
    old, new = metric.of(one["summary"]), metric.of(other["summary"])
    if old is None and new is None:
        return None
    ratio = new / old if old and new is not None else None
    return [
        metric.name,
        metric.unit,
        figure(old, "never"),
        figure(new, "never"),
        "" if ratio is None else f"{ratio:.2f}",
        verdict(metric, old, new),
    ]


def verdict(metric: Metric, old: float | None, new: float | None) -> str:
    """better or worse; empty where the two are about the same."""
    if old == new:
        return ""
    if old is None or new is None:  # it never came
        return "better" if old is None else "worse"
    if old and abs(new / old - 1) < SAME:
        return ""
    return "better" if (new < old) == (metric.better == "lower") else "worse"
