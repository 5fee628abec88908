"""Tests of deployments.http.bodies."""
