"""Tests of deployments.http.routes."""
