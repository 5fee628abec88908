"""Tests of pipeline.stepaudio.vocoder.flow."""
