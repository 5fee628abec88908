"""Tokens to mel: conformer, estimator and the flow around them, one stream or a batch."""
