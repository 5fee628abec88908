"""Metrics, alerts and dashboards know each other; alerts fire by their faults, and not without."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter

import pytest
import yaml

from deployments.telemetry import metrics
from deployments.telemetry.catalogue import GROUPS, LABELS, unit_of
from deployments.telemetry.metrics import Metric
from tests.dashboards.page import KNOWN, MONITORING, PAGE, alerts, page, panels, series_in

pytestmark = pytest.mark.unit

SEVERITIES = {"page", "ticket"}
MOST_PANELS = 24
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


def rows() -> list[Metric]:
    return [row for group in GROUPS for row in group.rows]


def test_every_metric_is_in_the_table_once_with_its_labels_explained():
    ours = [value for value in vars(metrics).values() if isinstance(value, Metric)]
    assert Counter(row.name for row in rows()) == Counter(row.name for row in ours)
    assert {label for row in rows() for label in row.labels} == LABELS.keys()
    assert all(unit_of(row) and row.help.endswith(".") for row in rows())


def test_the_page_is_that_of_the_table():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.dashboards.page"


def test_alerts_ask_for_what_there_is_and_say_what_to_do():
    for alert in alerts():
        assert series_in(alert["expr"]) <= KNOWN, alert["alert"]
        assert alert["labels"]["severity"] in SEVERITIES
        assert all(alert["annotations"][told] for told in ("summary", "action"))


def test_panels_ask_for_what_there_is():
    boards: Counter[str] = Counter()
    for board, panel in panels():
        boards[board] += 1
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert series_in(target["expr"]) <= KNOWN, (panel["title"], target["expr"])
    assert boards.keys() == {"service", "stages", "cache", "cost"}
    assert max(boards.values()) <= MOST_PANELS


def test_every_metric_of_ours_is_on_a_panel_or_in_an_alert():
    asked = {
        series
        for _, panel in panels()
        for one in panel["targets"]
        for series in series_in(one["expr"])
    }
    asked |= {series for alert in alerts() for series in series_in(alert["expr"])}
    assert sorted(name for name in KNOWN if name not in asked) == []


def test_dashboards_do_not_depend_on_one_grafana():
    for path in (MONITORING / "dashboards").glob("*.json"):
        board = json.loads(path.read_text())
        assert (board["uid"], board.get("id")) == (f"timbre-{path.stem}", None)
        for panel in board["panels"]:
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]


def test_every_alert_has_a_fault_that_fires_it_and_is_silent_without():
    cases = yaml.safe_load((MONITORING / "alerts.test.yaml").read_text())["tests"]
    fired: Counter[tuple[str, bool]] = Counter()
    for case in cases:
        for one in case["alert_rule_test"]:
            fired[one["alertname"], bool(one["exp_alerts"])] += 1
    wanted = {(alert["alert"], is_fired): 1 for alert in alerts() for is_fired in (True, False)}
    assert fired == wanted


@needs_promtool
@pytest.mark.parametrize(
    "words",
    [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")],
    ids=["rules are read", "rules fire"],
)
def test_promtool(words: tuple[str, ...]):
    done = subprocess.run(
        ["promtool", *words],
        cwd=MONITORING,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_reads_the_configuration():
    command = ["promtool", "check", "config", "--syntax-only", "prometheus.yaml"]
    done = subprocess.run(
        command, cwd=MONITORING, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
