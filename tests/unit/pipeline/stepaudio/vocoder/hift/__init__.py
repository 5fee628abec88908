"""Tests of pipeline.stepaudio.vocoder.hift."""
