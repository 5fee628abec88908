"""Tests of deployments.voices."""
