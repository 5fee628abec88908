"""Tests of deployments.config."""
