"""The table of the storm tier: rows as JSON, by case and setting, and as Markdown in the docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from load_tests.bench.provenance import provenance
from tests.conftest import ROOT

RESULTS = ROOT / "load_tests" / "results" / "storm.json"
PAGE = ROOT / "docs" / "resilience.md"
BEGIN, END = "<!-- table: make storm -->", "<!-- end of table -->"


def keep(row: dict[str, Any], path: Path = RESULTS) -> None:
    """Put a row in the place of the one of before."""
    document = json.loads(path.read_text()) if path.exists() else {"rows": []}
    rows = {(one["case"], one["setting"]): one for one in document["rows"]}
    rows[row["case"], row["setting"]] = {**provenance("cpu"), **row}
    document["rows"] = sorted(rows.values(), key=lambda one: one["setting"])
    path.write_text(json.dumps(document, indent=1) + "\n")


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table of rows, those of a setting together."""
    lines = [
        "| case | setting | requests | failed | longest stall | well after | taken, lost | |",
        "|---|---|--:|---|--:|--:|--:|---|",
    ]
    for row in rows:
        if row["skipped"]:
            lines.append(
                f"| {row['case']} | {row['setting']} | | skipped: {row['skipped']} | | | | |"
            )
            continue
        failed = ", ".join(f"{n} × {what}" for what, n in row["failed"].items()) or "none"
        after = row["recovered_after_s"]
        cells = [
            row["case"],
            row["setting"],
            str(row["requests"]),
            failed,
            f"{row['longest_stall_s']:.1f} s ({row['stalled']})",
            "never" if after is None else f"{after:.1f} s",
            f"{row['acknowledged']}, {len(row['lost'])}",
            "holds" if row["holds"] else "**does not hold**",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Put the rows' table into the page."""
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = markdown(json.loads(results.read_text())["rows"])
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")


if __name__ == "__main__":
    write_page()
