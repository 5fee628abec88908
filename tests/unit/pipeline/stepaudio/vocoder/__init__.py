"""Tests of pipeline.stepaudio.vocoder."""
