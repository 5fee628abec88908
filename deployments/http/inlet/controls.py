"""Headers by which Serve's proxy is told what to do, taken from callers.

Whoever sends them could switch off the time limit of a request (`x-request-timeout-seconds`), let
work go on for nobody (`x-request-disconnect-disabled`), or choose the replica that does it
(`serve_multiplexed_model_id`, the header of sessions). None of them is part of this service's API.
"""

from __future__ import annotations

import os

from starlette.types import ASGIApp, Receive, Scope, Send

SESSION_HEADER_VARIABLE = "RAY_SERVE_SESSION_ID_HEADER_KEY"  # Serve's own, renames one of them
OBEYED = (
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "serve-multiplexed-model-id",
    "x-session-id",
)
ROUTING_PREFIX = b"x-serve-router-"  # of Serve's own HAProxy, which trusts what it finds there


class WithoutControls:
    """Pure ASGI middleware outside of Serve's proxy, and outside of those of ours that use them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        renamed = os.environ.get(SESSION_HEADER_VARIABLE, "")
        self._obeyed = frozenset(_plain(name.encode()) for name in (*OBEYED, renamed) if name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            kept = [one for one in scope["headers"] if not self._is_control(_plain(one[0]))]
            if len(kept) < len(scope["headers"]):
                scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)

    def _is_control(self, name: bytes) -> bool:
        return name in self._obeyed or name.startswith(ROUTING_PREFIX)


def _plain(name: bytes) -> bytes:
    """Serve takes hyphens for underscores, as proxies do that rewrite them."""
    return name.lower().replace(b"_", b"-")
