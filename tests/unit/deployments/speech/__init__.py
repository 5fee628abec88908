"""Tests of deployments.speech."""
