"""What Serve's HTTP proxy process runs of ours, named in `controller_options` of the serve configs.

Ray calls it by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH before the proxy listens.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS

from deployments.http.request_id import CleanRequestId


def set_up_proxy() -> list[Middleware]:
    """Let the proxy read HTTP with h11, and callers' request ids be cleaned before it uses them.

    h11 ignores an offer to upgrade and goes on. uvicorn's first choice, httptools, stops behind the
    headers of a request that offers one (h2c, as Java's client does on every first request), so
    that its body is lost and the connection hangs.
    """
    HTTP_PROTOCOLS["auto"] = HTTP_PROTOCOLS["h11"]
    return [Middleware(CleanRequestId)]
