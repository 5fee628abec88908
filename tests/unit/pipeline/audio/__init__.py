"""Tests of pipeline.audio."""
