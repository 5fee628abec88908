"""Tests of load_tests.simulate."""
