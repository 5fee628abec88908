"""Our hook in Serve's HTTP proxy process, named in `controller_options` of the serve configs.

Ray calls it by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH before the proxy listens.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from deployments.http.body_along import BodyAlong
from deployments.http.inlet.controls import WithoutControls
from deployments.http.inlet.pages import WithoutRoutes
from deployments.http.inlet.room import BodyRoom
from deployments.http.liveness.signs import HearsSigns
from deployments.http.request_id import CleanRequestId
from deployments.http.sessions.flow import TIMEOUT_HEADER, SocketFlow
from deployments.telemetry.processes import watch_proxy

# Of speech: 100,000 characters are heard for under two hours, slowed down or of Chinese for eight.
LONGEST_REPLY_S = 28_800
PATIENT_H11 = "deployments.http.inlet.patience:PatientProtocol"
_SPEAKS = ("/v1/audio/speech", "/v1/tts", "/v1/text-to-")


class LongReplies:
    """Pure ASGI middleware outside of Serve's proxy: speech may take as long as it is heard.

    http_options.request_timeout_s is meant for all other requests. A silent stage ends a reply much
    sooner: `limits` bounds each wait for audio.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_SPEAKS):
            headers = MutableHeaders(raw=list(scope["headers"]))
            headers[TIMEOUT_HEADER] = str(LONGEST_REPLY_S)
            scope = {**scope, "headers": headers.raw}
        await self._app(scope, receive, send)


def set_up_proxy() -> list[Middleware]:
    """Make the proxy parse HTTP with h11, wait for no slow head, and clean callers' request ids.

    It then obeys no caller's headers, shows nobody its page of applications, bounds the bodies that
    it holds, minds routers that say nothing, lets speech take its time, sends small bodies along,
    tells routers how their WebSockets' clients keep up, and publishes what itself and the machine's
    raylet take.

    h11 ignores an upgrade offer other than WebSocket's. uvicorn's default, httptools, stops after
    the headers of a request with one (h2c, which Java's client sends with every first request): the
    body is lost and the connection hangs.
    """
    watch_proxy()
    HTTP_PROTOCOLS["auto"] = PATIENT_H11
    inwards = (
        WithoutControls, WithoutRoutes, CleanRequestId, BodyRoom, HearsSigns, LongReplies,
        BodyAlong, SocketFlow,
    )  # fmt: skip
    return [Middleware(one) for one in reversed(inwards)]  # Serve puts each around those before it
