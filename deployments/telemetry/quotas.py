"""Metrics of quotas: who is over one, and whether they are counted for the whole cluster."""

from __future__ import annotations

from typing import Protocol

from deployments.telemetry import metrics as table
from deployments.telemetry.gauges import keep_published


class QuotaRefusals:
    """Counts refusals by what is over and whether it is a tenant's quota or a key's."""

    def __init__(self) -> None:
        self._refusals = table.QUOTA_REFUSALS.open()

    def __call__(self, measure: str, of: str) -> None:
        self._refusals.inc(tags={"measure": measure, "of": of})


class Counting(Protocol):
    """See QuotaGate."""

    @property
    def is_alone(self) -> bool: ...


class QuotaGauge:
    """Of one router."""

    def __init__(self, gate: Counting) -> None:
        self._gate = gate
        self._alone = table.QUOTA_ALONE.open()
        keep_published(self)

    def publish(self) -> None:
        """Set the gauge to what is so now."""
        self._alone.set(int(self._gate.is_alone))
