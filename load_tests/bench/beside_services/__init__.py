"""Whole services of two trees beside each other."""
