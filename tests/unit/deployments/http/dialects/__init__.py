"""Tests of deployments.http.dialects."""
