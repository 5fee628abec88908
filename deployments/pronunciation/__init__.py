"""Pronunciation dictionaries: kept for every tenant, and completed into how a request is read."""
