"""Tests of load_tests.gpu.sections."""
