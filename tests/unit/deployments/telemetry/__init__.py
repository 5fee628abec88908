"""Tests of deployments.telemetry."""
