"""Marks of synthetic speech: a watermark that nobody hears and a detector finds."""
