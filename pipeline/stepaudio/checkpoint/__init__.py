"""Checkpoints as files: written, fetched, verified."""
