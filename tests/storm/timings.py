"""What the runbooks took when they were followed, as JSON and as the table of upgrade.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from load_tests.bench.provenance import provenance
from tests.conftest import ROOT

RESULTS = ROOT / "load_tests" / "results" / "runbook.json"
PAGE = ROOT / "docs" / "operations" / "upgrade.md"
BEGIN, END = "<!-- table: tests/storm/test_production.py -->", "<!-- end of table -->"


def keep(acts: Mapping[str, Mapping[str, Any]], per_s: float) -> None:
    """Write both. acts: what each came to, by its name; per_s: requests a second meanwhile."""
    document = {"per_s": per_s, "acts": acts, **provenance("cpu")}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    write_page()


def markdown(document: Mapping[str, Any]) -> str:
    """The table, with where and when it was measured."""
    lines = [
        f"Measured by following these pages with {document['per_s']:g} requests a second, on three "
        "machines that are",
        f"namespaces of one with {document['cpus']} cores, beside other work (load average "
        f"{document['load_average']:.0f}), with the embedded model:",
        "",
        "| | took | requests meanwhile | failed | told to come again | longest wait for a sign |",
        "|---|--:|--:|---|---|--:|",
    ]
    for name, act in document["acts"].items():
        took = f"{act['took_s']:.0f} s"
        if "requests" not in act:
            lines.append(f"| {name} | {took} | | | | |")
            continue
        cells = (
            str(act["requests"]),
            _counted(act["failed"]),
            _counted(act["told_to_come_again"]),
            f"{act['longest_stall_s']:.1f} s",
        )
        lines.append(f"| {name} | {took} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _counted(calls: Mapping[str, int]) -> str:
    return ", ".join(f"{n} × {what}" for what, n in calls.items()) or "none"


def write_page(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Put the table into the page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = markdown(json.loads(results.read_text()))
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_page()
