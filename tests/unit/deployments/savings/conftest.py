"""What metrics were told, as in the tests of telemetry."""

from __future__ import annotations

from tests.unit.deployments.telemetry.conftest import seen

__all__ = ["seen"]
