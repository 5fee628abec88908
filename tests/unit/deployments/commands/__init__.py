"""Tests of deployments.local."""
