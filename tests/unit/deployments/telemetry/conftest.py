"""What metrics were told, without Ray."""

from __future__ import annotations

from collections import defaultdict

import pytest

from deployments.telemetry import metrics as table

Seen = dict[str, list]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Everything that any metric was told, as (value, labels in order), by the metric's name."""
    told: Seen = defaultdict(list)

    class Metric:
        def __init__(self, name: str, **_: object) -> None:
            self._name = name

        def observe(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
            told[self._name].append((value, *(tags or {}).values()))

        set = inc = observe

    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(table.metrics, kind, Metric)
    return told
