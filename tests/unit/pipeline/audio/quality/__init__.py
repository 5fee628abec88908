"""Tests of pipeline.audio.quality."""
