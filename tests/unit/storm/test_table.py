"""The storm tier's rows: what holds, what is kept of them, how they read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.storm import table
from tests.storm.rows import MOST_RECOVERY_S, MOST_STALL_S, Row

pytestmark = pytest.mark.unit
GOOD = Row("kill -9", "S3", 40, {"503 stage_unavailable": 2}, 1.25, "voice", 3.5, 4)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, []),
        ({"longest_stall_s": MOST_STALL_S + 0.1}, ["a voice request stood for 10.1 s"]),
        ({"recovered_after_s": None}, ["not well within 30 s"]),
        ({"recovered_after_s": MOST_RECOVERY_S + 1}, ["not well within 30 s"]),
        ({"lost": ("job_1",)}, ["lost: job_1"]),
        ({"skipped": "no root", "recovered_after_s": None}, []),
    ],
)
def test_what_does_not_hold_is_said(changed: dict, says: list[str]) -> None:
    row = Row(**{**_fields(GOOD), **changed})
    assert row.faults == says
    assert row.as_dict()["holds"] is not bool(says)


def _fields(row: Row) -> dict:
    return {name: value for name, value in row.as_dict().items() if name != "holds"}


def test_a_row_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "storm.json"
    for row in (GOOD, Row("kill -9", "disk", skipped="no disk"), GOOD):
        table.keep(row.as_dict(), path)
    kept = json.loads(path.read_text())["rows"]
    assert [(row["case"], row["setting"]) for row in kept] == [
        ("kill -9", "S3"),
        ("kill -9", "disk"),
    ]
    assert all(row["commit"] and row["device"] and row["command"] for row in kept)


def test_the_page_shows_every_row(tmp_path: Path) -> None:
    results, page = tmp_path / "storm.json", tmp_path / "resilience.md"
    table.keep(GOOD.as_dict(), results)
    table.keep(Row("full disk", "S3", skipped="no root").as_dict(), results)
    page.write_text(f"# Title\n\n{table.BEGIN}\nold\n{table.END}\nend\n")
    for _ in range(2):
        table.write_page(results, page)
    assert page.read_text() == (
        f"# Title\n\n{table.BEGIN}\n\n"
        "| case | setting | requests | failed | longest stall | well after | taken, lost | |\n"
        "|---|---|--:|---|--:|--:|--:|---|\n"
        "| kill -9 | S3 | 40 | 2 × 503 stage_unavailable | 1.2 s (voice) | 3.5 s | 4, 0 | holds |\n"
        "| full disk | S3 | | skipped: no root | | | | |\n"
        f"\n{table.END}\nend\n"
    )
