"""Tests of pipeline.stepaudio.asr."""
