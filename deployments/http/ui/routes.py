"""Serves the page's files. They hold nothing of anybody, so they need no key.

Which scripts, sounds and connections the page may have is told to the browser here: its own files,
its own service, and sounds that it made itself.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import PurePath

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from deployments.http import ui

INDEX = "index.html"
_ETAG_BYTES = 16
_TYPES = {  # said here, for a browser runs no script of another type
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "media-src": "blob:",  # of jobs: fetched with the caller's key, then played
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for each time, and answered 304: an update counts at once
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True, eq=False)
class PageFile:
    """One file. zipped: the same in gzip."""

    content: bytes
    zipped: bytes
    media_type: str
    etag: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """By name; read by the first request for one. Some 100 kB."""
    static = files(ui) / "static"
    return {path.name: _read(path.name, path.read_bytes()) for path in static.iterdir()}


def _read(name: str, content: bytes) -> PageFile:
    etag = f'"{blake2b(content, digest_size=_ETAG_BYTES).hexdigest()}"'
    media_type = _TYPES[PurePath(name).suffix]
    return PageFile(content, gzip.compress(content, mtime=0), media_type, etag)


def add_page(app: FastAPI) -> None:
    """GET /ui and what it loads. Its addresses are relative: it works behind a prefix, too."""

    async def page(request: Request) -> Response:
        return _answer(request, INDEX)

    async def file(request: Request) -> Response:
        name: str = request.path_params["name"]
        return _answer(request, name) if name else RedirectResponse("../ui", headers=HEADERS)

    app.add_route("/ui", page, ["GET"], include_in_schema=False)
    app.add_route("/ui/{name:path}", file, ["GET"], include_in_schema=False)


def _answer(request: Request, name: str) -> Response:
    found = page_files().get(name)
    if found is None:
        raise HTTPException(404, "the page has no such file")
    told = {**HEADERS, "ETag": found.etag}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(None, 304, told)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(found.content, headers=told, media_type=found.media_type)
    told["Content-Encoding"] = "gzip"
    return Response(found.zipped, headers=told, media_type=found.media_type)
