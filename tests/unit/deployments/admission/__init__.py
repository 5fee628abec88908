"""Tests of deployments.admission."""
