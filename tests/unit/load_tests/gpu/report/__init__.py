"""Tests of load_tests.gpu.report."""
