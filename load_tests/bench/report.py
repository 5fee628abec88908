"""Benchmark reports: rows with their bars, as a table and as JSON.

`provenance` adds hardware, commit and command.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    """The bar of the value; None without one."""
    better: Literal["lower", "higher"] = "lower"
    """The good side of the bar."""

    @property
    def is_met(self) -> bool:
        if self.bar is None:
            return True
        return self.value <= self.bar if self.better == "lower" else self.value >= self.bar


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Median duration of `work`; after one warm-up run."""
    work()
    durations_s = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        work()
        durations_s.append(time.perf_counter() - started_s)
    return statistics.median(durations_s)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def publish(rows: Sequence[Row], about: dict[str, object], path: Path | None) -> int:
    """Print the table, write JSON to `path`; 1 when a bar is missed, else 0."""
    print(f"{'':66} {'value':>10} {'bar':>8}")
    for row in rows:
        bar = "" if row.bar is None else f"{'≤' if row.better == 'lower' else '≥'} {row.bar:g}"
        print(
            f"{row.what:66} {row.value:10.4g} {bar:>8} {row.unit}{'' if row.is_met else '  MISSED'}"
        )
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {**about, "rows": [{**asdict(row), "is_met": row.is_met} for row in rows]}
        path.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row.is_met for row in rows) else 1
