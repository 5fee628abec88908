"""Whose request it is, and what it may do."""
