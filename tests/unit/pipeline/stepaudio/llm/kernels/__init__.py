"""Tests of pipeline.stepaudio.llm.kernels."""
