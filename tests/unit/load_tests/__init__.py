"""Tests of load_tests."""
