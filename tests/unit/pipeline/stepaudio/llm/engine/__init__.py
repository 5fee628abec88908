"""Tests of pipeline.stepaudio.llm.engine."""
