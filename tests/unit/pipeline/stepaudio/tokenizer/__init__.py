"""Tests of pipeline.stepaudio.tokenizer."""
