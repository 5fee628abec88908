"""Whose a request is, and what its key allows."""
