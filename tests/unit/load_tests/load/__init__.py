"""Tests of load_tests.load."""
