"""Every query of every panel has data of a service that works; every rule can be evaluated."""

from __future__ import annotations

import json

import pytest

from tests.dashboards.conftest import Watched
from tests.dashboards.prometheus import DASHBOARDS, resolved

pytestmark = pytest.mark.dashboards

# Faults that no caller can bring about: these stand at 0, which is data, too.
WELL = frozenset(
    {
        "Ended with a fault of ours",
        "Tiers set aside",
        "GPU memory that torch holds",
        "Waiting",
        "Waiting for first audio",
        "Oldest request in a queue",
        "At work",
        "At work and waiting",
        "Counting quotas alone",
        "Streams open",
        "Promised of what can be made",
        "Oldest write that waits",
    }
)


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_every_query_has_data(watched: Watched, path) -> None:
    empty, flat = [], []
    for panel in json.loads(path.read_text())["panels"]:
        values = []
        for target in panel["targets"]:
            found = watched.prometheus.values(resolved(target["expr"]))
            values += found
            if not found:
                empty.append(f"{panel['title']}: {target['expr']}")
        if not any(value > 0 for value in values) and panel["title"] not in WELL:
            flat.append(panel["title"])
    assert (empty, flat) == ([], [])


def test_every_rule_is_evaluated_and_no_page_is_sent(watched: Watched) -> None:
    rules = watched.prometheus.rules()
    assert rules
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    # the load asks for more than two cores can serve, on purpose, and slow_s is a second
    assert firing <= {"TimbreRefusing", "TimbreFirstAudioLate", "TimbreQueueOld"}


def test_what_was_saved_is_told_by_tenant_and_voice(watched: Watched) -> None:
    report = watched.client.http.get("/v1/cache/savings", headers=watched.operator).json()
    (tenant,) = [row for row in report["by_tenant"] if row["tenant"] == "museum"]
    assert tenant["speech"]["hits"] > 0
    assert tenant["speech"]["saved_s"] > 0
    assert tenant["speech"]["money"] > 0
    assert "aria" in {row["voice"] for row in report["by_voice"] if row["tenant"] == "museum"}
    refused = watched.client.http.get("/v1/cache/savings", headers=watched.speaker)
    assert refused.status_code == 403
