"""Tests of pipeline.stepaudio."""
