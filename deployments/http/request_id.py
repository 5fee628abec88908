"""Request ids: one id from the caller's log to ours.

Callers may choose it, so it is cleaned and bounded before it reaches a log, a message or a header.
"""

from __future__ import annotations

import string
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

REQUEST_ID_HEADER = "x-request-id"
REQUEST_ID_CHARS = 128
_ALPHABET = frozenset(string.ascii_letters + string.digits + "-_.:/+=@")


def request_id_of(given: str | None) -> str:
    """A caller's id without characters unsafe in a log; a new one when nothing is left."""
    kept = "".join(char for char in given or "" if char in _ALPHABET)
    return kept[:REQUEST_ID_CHARS] or uuid.uuid4().hex


class CleanRequestId:
    """Pure ASGI middleware outside of Serve's proxy, which echoes and logs ids as given."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request without an id gets one from the proxy itself."""
        if scope["type"] in {"http", "websocket"}:
            headers = MutableHeaders(raw=list(scope["headers"]))
            if (given := headers.get(REQUEST_ID_HEADER)) is not None:
                headers[REQUEST_ID_HEADER] = request_id_of(given)
                scope = {**scope, "headers": headers.raw}
        await self._app(scope, receive, send)
