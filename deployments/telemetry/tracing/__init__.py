"""Traces: which requests are traced, and where their spans go."""
