"""Tests of deployments.capacity."""
