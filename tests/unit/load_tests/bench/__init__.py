"""Tests of load_tests.bench."""
