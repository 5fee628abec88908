"""Edits in chains: each step takes the tokens of the one before, and is kept as finished speech."""
