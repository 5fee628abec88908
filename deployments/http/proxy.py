"""Our hook in Serve's HTTP proxy process, named in `controller_options` of the serve configs.

Ray calls it by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH before the proxy listens.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS

from deployments.http.body_along import BodyAlong
from deployments.http.request_id import CleanRequestId


def set_up_proxy() -> list[Middleware]:
    """Make the proxy parse HTTP with h11, clean callers' request ids and send small bodies along.

    h11 ignores an upgrade offer. uvicorn's default, httptools, stops after the headers of a request
    with one (h2c, which Java's client sends with every first request): the body is lost and the
    connection hangs.
    """
    HTTP_PROTOCOLS["auto"] = HTTP_PROTOCOLS["h11"]
    return [Middleware(CleanRequestId), Middleware(BodyAlong)]
