"""Continuous batching: slots, scheduler, the worker thread, and the engine that stages call."""
