"""Tests of pipeline.stepaudio.parity."""
