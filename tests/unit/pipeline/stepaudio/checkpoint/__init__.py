"""Tests of pipeline.stepaudio.checkpoint."""
