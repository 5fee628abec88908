"""Tests of pipeline.stepaudio.llm."""
