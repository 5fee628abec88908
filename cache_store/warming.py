"""Has a running service encode clips ahead of their first use, over HTTP."""

from __future__ import annotations

import ipaddress
import json
import urllib.error
import urllib.request
from typing import cast
from urllib.parse import urlsplit


def is_web_address(server: str) -> bool:
    """Whether `post_clip` can ask it."""
    return server.startswith(("http://", "https://"))


def post_clip(server: str, upload: bytes, api_key: str | None) -> dict[str, object]:
    """The service's reply about the clip; on failure the reason, under `error`."""
    headers = {"Content-Type": "application/octet-stream"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    request = urllib.request.Request(f"{server}/v1/cache/warm", upload, headers)  # noqa: S310 - the caller has checked
    try:
        with _opener(server).open(request, timeout=120) as reply:
            return cast("dict[str, object]", json.load(reply))
    except urllib.error.HTTPError as error:
        return {"error": error.read().decode("utf-8", "replace")[:500]}
    except OSError as error:
        return {"error": str(error)}


def _opener(server: str) -> urllib.request.OpenerDirector:
    """Without the environment's proxies to this machine, with them to any other."""
    handlers = [urllib.request.ProxyHandler({})] if _is_loopback(server) else []
    return urllib.request.build_opener(*handlers)


def _is_loopback(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
