"""Whose request it is. Until keys exist, everybody's is the tenant of the settings."""

from __future__ import annotations

from starlette.requests import HTTPConnection


def namespace_of(request: HTTPConnection, default: str) -> str:
    """The namespace that the edge has found for the request's key; a request names none itself.

    The key is in a header, for a WebSocket in those of its handshake.
    """
    return getattr(request.state, "namespace", default)
