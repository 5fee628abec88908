"""Comparison of every stage with golden data of the reference implementation."""
