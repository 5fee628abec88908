"""Tests of deployments.http."""
