"""Tenants are counted by name, as many as a dashboard can bear."""

from __future__ import annotations

import pytest
from ray.serve import metrics

from deployments.telemetry.tenants import MOST_NAMED, OTHER, TenantCounts

pytestmark = pytest.mark.unit


def test_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(metrics.Counter, "inc", lambda _, value=1.0, tags=None: seen.append(tags))
    counts = TenantCounts()
    for number in range(2 * MOST_NAMED):
        counts.let_in(f"tenant-{number}")
    counts.let_in("tenant-0")
    counts.refused("missing")
    labels = [tags["tenant"] for tags in seen if "tenant" in tags]
    assert len(set(labels)) == MOST_NAMED + 1
    assert labels.count(OTHER) == MOST_NAMED
    assert labels[-1] == "tenant-0"
    assert seen[-1] == {"reason": "missing"}
