"""Writes docs/metrics.md from the table and the alerts: `python -m tests.dashboards.page`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from deployments.telemetry.catalogue import GROUPS, LABELS, OF_RAY, kind_of, series_of, unit_of
from deployments.telemetry.metrics import Metric
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "metrics.md"
MONITORING = ROOT / "deploy" / "monitoring"
INTRODUCTION = """# Metrics

Every process of timbre reports to Ray, and Prometheus scrapes each machine's page of them; how,
and what to look at, is in [observability.md](observability.md). Names are as Prometheus has them. A
histogram has `_bucket`, `_sum` and `_count` behind its name; every series has Ray's labels
`application`, `deployment` and `replica` beside its own.

This page is made from `deployments/telemetry/catalogue.py` and `deploy/monitoring/alerts.yaml`:
`python -m tests.dashboards.page`.
"""
_NAME = re.compile(r"\b(?:ray_[a-z0-9_]+|up)\b")
_BEHIND = re.compile(r"_(?:bucket|sum|count)$")


def alerts() -> list[dict[str, Any]]:
    """Of deploy/monitoring/alerts.yaml, in order."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel with its dashboard's name."""
    for path in sorted((MONITORING / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            yield path.stem, panel


def series_in(expression: str) -> set[str]:
    """The series that an expression asks for, by the names of the table."""
    told = re.sub(r'"[^"]*"', _only_names, expression)
    expanded = {name for found in _NAME.findall(told) for name in (found, _BEHIND.sub("", found))}
    return {name for name in expanded if name in KNOWN} or expanded


def _only_names(match: re.Match[str]) -> str:
    """Of a label's value only what matches the names of both caches' tiers."""
    return " ray_timbre_cache_tier ray_timbre_speech_cache_tier " if "_tier" in match[0] else ""


KNOWN = {series_of(row) for group in GROUPS for row in group.rows} | OF_RAY.keys()


def page() -> str:
    """The whole page."""
    used = _users()
    parts = [INTRODUCTION, *(_group(group.where, group.rows, used) for group in GROUPS)]
    return "\n".join([*parts, _of_ray(used), _labels(), _alerts()])


def _users() -> Mapping[str, list[str]]:
    """Alerts by the series that they ask for."""
    found: dict[str, list[str]] = {}
    for alert in alerts():
        for series in series_in(alert["expr"]):
            found.setdefault(series, []).append(alert["alert"])
    return found


def _group(where: str, rows: tuple[Metric, ...], used: Mapping[str, list[str]]) -> str:
    table = [
        f"\n## {where}\n",
        "| metric | kind | unit | labels | meaning | alert |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        asking = ", ".join(used.get(series_of(row), []))
        cells = (f"`{series_of(row)}`", kind_of(row), unit_of(row), labels, row.help, asking)
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def _of_ray(used: Mapping[str, list[str]]) -> str:
    table = [
        "\n## Of Ray and Prometheus, as far as panels and alerts use them\n",
        "| metric | unit | meaning | alert |",
        "|---|---|---|---|",
    ]
    for name, (unit, meaning) in OF_RAY.items():
        table.append(f"| `{name}` | {unit} | {meaning} | {', '.join(used.get(name, []))} |")
    return "\n".join(table)


def _labels() -> str:
    rows = [f"| `{label}` | {meaning} |" for label, meaning in LABELS.items()]
    return "\n".join(["\n## Labels\n", "| label | values |", "|---|---|", *rows])


def _alerts() -> str:
    table = [
        "\n## Alerts\n",
        "`page` wakes somebody, `ticket` waits until the morning. Each is fired by a planted",
        "fault, and silent without it, in `deploy/monitoring/alerts.test.yaml`.\n",
        "| alert | severity | after | says | first |",
        "|---|---|---|---|---|",
    ]
    for alert in alerts():
        told = alert["annotations"]
        cells = (alert["alert"], alert["labels"]["severity"], alert["for"])
        table.append(f"| {' | '.join([*cells, told['summary'], told['action']])} |")
    return "\n".join([*table, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
