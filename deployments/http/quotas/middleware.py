"""Counts requests of those who have a quota, refuses what is over it, and tells what is left."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http.errors import SERVER_FAULT, answer_error
from deployments.http.tenant import caller_of
from deployments.quotas.gate import QuotaGate
from deployments.quotas.spending import CURRENT, Charge, Spending
from pipeline.errors import QuotaError, StageUnavailableError

API = "/v1/"  # pages, health and metrics cost nothing
_METHODS_THAT_LOOK = frozenset({"GET", "HEAD", "OPTIONS"})


class Quotas:
    """Pure ASGI middleware, behind whatever finds out whose a request is.

    A request that looks at something is not counted, what it hears is. One that fails here, or is
    refused because the service is full, is given back. A WebSocket's utterances are counted by who
    speaks them. default_namespace: of requests without a key.
    """

    def __init__(self, app: ASGIApp, *, gate: QuotaGate, default_namespace: str) -> None:
        self._app, self._gate = app, gate
        self._namespace = default_namespace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or not scope["path"].startswith(API):
            await self._app(scope, receive, send)
            return
        caller = caller_of(HTTPConnection(scope), self._namespace)
        spending = self._gate.spending(caller)
        if not spending.is_limited:
            await self._app(scope, receive, send)
            return
        token = CURRENT.set(spending)
        try:
            if scope["type"] == "websocket":
                await self._app(scope, receive, send)
            else:
                await self._counted(spending, scope, receive, send)
        finally:
            CURRENT.reset(token)

    async def _counted(
        self, spending: Spending, scope: Scope, receive: Receive, send: Send
    ) -> None:
        reply = _Told(spending, Charge(), send)
        if scope["method"] not in _METHODS_THAT_LOOK:
            try:
                reply.charge = await spending.request()
            except (QuotaError, StageUnavailableError) as error:
                refusal = answer_error(error, scope["state"]["request_id"])
                await refusal(scope, receive, reply.send)
                return
        try:
            await self._app(scope, receive, reply.send)
        except Exception:
            reply.charge.refund()
            raise


class _Told:
    """Adds what is left to a reply; charge: of its request."""

    def __init__(self, spending: Spending, charge: Charge, send: Send) -> None:
        self._spending, self.charge, self._send = spending, charge, send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            if status >= SERVER_FAULT or status == HTTPStatus.TOO_MANY_REQUESTS:
                self.charge.refund()
            headers = MutableHeaders(scope=message)
            for name, value in self._spending.headers().items():
                headers[name] = value
        await self._send(message)
