"""Whose request it is. Where keys are off, everybody's is the tenant of the settings."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from deployments.access.caller import Caller, Scope

NAMESPACE, CALLER = "namespace", "caller"  # in a request's state; only the guard sets them


def namespace_of(request: HTTPConnection, default: str) -> str:
    """The namespace that the edge has found for the request's key; a request names none itself.

    The key is in a header, for a WebSocket in those of its handshake.
    """
    return getattr(request.state, NAMESPACE, default)


def caller_of(request: HTTPConnection, default: str) -> Caller:
    """Who asks. Without keys, somebody of the namespace who may do everything."""
    found: Caller | None = getattr(request.state, CALLER, None)
    if found is not None:
        return found
    return Caller(namespace_of(request, default), "", frozenset(Scope))
