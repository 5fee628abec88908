"""Tests of deployments.edits."""
