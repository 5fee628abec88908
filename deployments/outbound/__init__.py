"""Requests that the service itself makes to addresses that its callers name."""
