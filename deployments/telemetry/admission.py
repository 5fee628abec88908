"""Metrics of who is let in, and who is not."""

from __future__ import annotations

from typing import Protocol

from deployments.telemetry import metrics as table
from deployments.telemetry.gauges import keep_published
from pipeline.serving.terms import Service


class Promising(Protocol):
    """What a vocoder can make and has promised, seconds of audio a second; see AdmissionGate."""

    @property
    def capacity(self) -> float: ...
    @property
    def reserved(self) -> float: ...
    @property
    def queue_age_s(self) -> float: ...


class AdmissionGauges:
    """Gauges of one replica's gate."""

    def __init__(self, gate: Promising) -> None:
        self._gate = gate
        self._capacity = table.CAPACITY.open()
        self._reserved = table.RESERVED.open()
        self._queue_age = table.QUEUE_AGE.open()
        keep_published(self)

    def publish(self) -> None:
        """Set the gauges to the current numbers."""
        self._capacity.set(self._gate.capacity)
        self._reserved.set(self._gate.reserved)
        self._queue_age.set(self._gate.queue_age_s)


class RefusalCounts:
    """Counts refusals by the kind of service and the reason."""

    def __init__(self) -> None:
        self._refusals = table.REFUSALS.open()

    def __call__(self, service: Service, reason: str) -> None:
        self._refusals.inc(tags={"service": service.value, "reason": reason})
