"""Serve's own page of its applications, which its proxy would show to anybody, before any guard."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

ROUTES = "/-/routes"  # Serve's; it tells every application and its prefix


class WithoutRoutes:
    """Pure ASGI middleware outside of Serve's proxy: the router answers, as any unknown address.

    By that it wants a key where keys are on, and is nowhere otherwise. `/-/healthz` stays Serve's:
    whoever runs the proxy asks there whether it lives.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            path, root = scope["path"], scope.get("root_path", "")
            if path[len(root) :] == ROUTES:
                scope = {**scope, "path": f"{path}/"}  # which Serve does not know
        await self._app(scope, receive, send)
