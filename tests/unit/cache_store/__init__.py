"""Tests of cache_store."""
