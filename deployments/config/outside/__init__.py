"""Sections about what the service itself asks of others."""
