"""Tests of deployments.stages."""
