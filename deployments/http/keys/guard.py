"""Lets in whom a key lets in, before anything reads the request; and says whose request it is.

Which route a request reaches is asked of the routes themselves, so that no address is one thing to
the guard and another to the router.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.access.caller import Caller
from deployments.http.keys.credentials import MISSING, is_key, presented
from deployments.http.keys.doors import ANY_KEY, SOCKET, Door, door_of
from deployments.http.tenant import CALLER, NAMESPACE
from deployments.telemetry.tenants import Reason, TenantCounts
from pipeline.errors import ForbiddenError, NoKeyError, TimbreError, UnauthenticatedError

NOBODY = Caller("")  # who asks for what is open, without a key
_OURS = frozenset({"http", "websocket"})


class Callers(Protocol):
    """See deployments.keys.authority.Authority."""

    async def caller(self, credential: str) -> Caller: ...

    def known(self, credential: str) -> Caller | None: ...


class Guard:
    """Pure ASGI middleware, inside of the edge, which answers what it raises.

    Unknown addresses are those of callers: without a key nobody learns which there are.
    """

    def __init__(self, app: ASGIApp, *, callers: Callers) -> None:
        self._app = app
        self._callers = callers
        self._counts = TenantCounts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _OURS:
            await self._app(scope, receive, send)
            return
        offered: Sequence[str] = scope.get("subprotocols") or ()
        door = _door_at(scope)
        with self._counted():
            caller = await self._let_in(door, Headers(scope=scope), offered)
        if not door.is_open:
            self._counts.let_in(caller.namespace)
        scope.setdefault("state", {}).update({CALLER: caller, NAMESPACE: caller.namespace})
        await self._app(scope, receive, _choosing(send, offered))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except TimbreError as error:
            self._counts.refused(_reason(error))
            raise

    async def _let_in(self, door: Door, headers: Headers, offered: Sequence[str]) -> Caller:
        """Whose request it is. Raises what is to be answered to those who may not."""
        caller = await self._caller(door, headers, offered)
        if not door.is_open and not door.lets_in(caller):
            needs = " or ".join(door.scopes)
            raise ForbiddenError(
                f"this API key may not do that: it needs the scope {needs}",
                scope=" ".join(door.scopes),
            )
        return caller

    async def _caller(self, door: Door, headers: Headers, offered: Sequence[str]) -> Caller:
        if door.is_open:
            try:
                key = presented(headers, offered)
            except UnauthenticatedError:  # health is told to whoever asks
                key = None
            return (key and self._callers.known(key)) or NOBODY
        key = presented(headers, offered)
        if key is None:
            raise NoKeyError(MISSING)
        return await self._callers.caller(key)


class ThisMachineOnly:
    """Pure ASGI middleware where keys are off: refuses what came by a network, but for health."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_here = scope["type"] not in _OURS or _is_loopback(scope.get("server"))
        if not is_here and not _door_at(scope).is_open:
            raise ForbiddenError(
                "without API keys this service answers on its own machine alone; see access.keys"
            )
        await self._app(scope, receive, send)


def _reason(error: TimbreError) -> Reason:
    if isinstance(error, ForbiddenError):
        return "scope"
    if isinstance(error, UnauthenticatedError):
        return "missing" if isinstance(error, NoKeyError) else "invalid"
    return "unknown"


def _is_loopback(server: Sequence[object] | None) -> bool:
    """Whether this end of a connection is; a socket of the file system is, too."""
    try:
        found = ipaddress.ip_address(str(server[0]) if server else "")
    except ValueError:
        return True  # no address of a network
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _door_at(scope: Scope) -> Door:
    """Of the route that the router will choose: the first that matches, by its method too."""
    method = SOCKET if scope["type"] == "websocket" else scope["method"]
    asked = {**scope, "method": "GET"} if method == "HEAD" else scope
    routes: Sequence[BaseRoute] = scope["app"].routes
    for route in routes:
        if route.matches(asked)[0] is Match.FULL:
            return door_of(method, getattr(route, "path", ""))
    return ANY_KEY  # there is nothing: 404 and 405 are for callers


def _choosing(send: Send, offered: Sequence[str]) -> Send:
    """Where a WebSocket's key is among the subprotocols offered, choose the first that is none.

    Browsers close what chooses none of what they offered.
    """
    names = [one for one in offered if not is_key(one)]
    if not names or len(names) == len(offered):
        return send

    async def choose(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": names[0]}
        await send(message)

    return choose
