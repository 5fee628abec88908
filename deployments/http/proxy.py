"""Our hook in Serve's HTTP proxy process, named in `controller_options` of the serve configs.

Ray calls it by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH before the proxy listens.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS

from deployments.http.body_along import BodyAlong
from deployments.http.request_id import CleanRequestId
from deployments.http.sessions.flow import SocketFlow


def set_up_proxy() -> list[Middleware]:
    """Make the proxy parse HTTP with h11 and clean callers' request ids.

    It then sends small bodies along, and tells routers how their WebSockets' clients keep up.

    h11 ignores an upgrade offer other than WebSocket's. uvicorn's default, httptools, stops after
    the headers of a request with one (h2c, which Java's client sends with every first request): the
    body is lost and the connection hangs.
    """
    HTTP_PROTOCOLS["auto"] = HTTP_PROTOCOLS["h11"]
    return [Middleware(CleanRequestId), Middleware(BodyAlong), Middleware(SocketFlow)]
