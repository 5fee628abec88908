"""Tests of pronunciation dictionaries."""
