"""Whose request it is. Until keys exist, everybody's is the tenant of the settings."""

from __future__ import annotations

from fastapi import Request


def namespace_of(request: Request, default: str) -> str:
    """The namespace that the edge has found for the request's key; a request names none itself."""
    return getattr(request.state, "namespace", default)
