"""Benchmarks of one component each, beside its alternative in the same run."""
