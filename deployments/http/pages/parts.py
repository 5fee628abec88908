"""What the API's pages say of every route alike: headers, and what the edge answers by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from deployments.http.errors import RETRY_AFTER_S
from deployments.http.request_id import REQUEST_ID_CHARS

LONGEST_RETRY_AFTER_S = 120  # OpenAI's client takes more as a no
OF_ALL = ("X-Request-Id", "X-Cache", "Server-Timing")
OF_SPEECH = (
    "X-Quality", "X-Audio-Sample-Rate", "X-Audio-Channels", "X-Audio-Warning", "X-Ignored-Fields",
    "X-Provenance",
)  # fmt: skip
_EXAMPLES = ("example", "examples")
_ID_CHARS = {"type": "string", "maxLength": REQUEST_ID_CHARS}
_COUNT: dict[str, Any] = {"type": "integer"}
_DURATION: dict[str, Any] = {"type": "string", "pattern": r"^(\d+h)?(\d+m)?(\d+(\.\d+)?s|\d+ms)$"}
_EDGE = {
    404: "An address that nothing has",
    413: "The body is too large",
    429: "A quota is used, or as full as it may be; retry later",
    500: "Something failed inside: the log has it under the request id",
    503: "The service is full; retry later",
}


def _header(description: str, example: Any, *, is_sure: bool = False, **schema: Any) -> Any:
    return {"description": description, "required": is_sure, "schema": schema, "example": example}


HEADERS: dict[str, Any] = {
    "X-Request-Id": _header(
        "Finds the request in the log, and its outcome; the caller's own where one was sent",
        "caller-4711",
        **_ID_CHARS,
    ),
    "X-Cache": _header(
        "What answered for the voice (l1, l2, l3, miss; none where no voice was looked up), and "
        "before it for speech that was not made anew (speech-l1, …)",
        "speech-l1, l1",
        is_sure=True,
        type="string",
    ),
    "Server-Timing": _header(
        "Milliseconds by stage", "total;dur=12.3", is_sure=True, type="string"
    ),
    "X-Quality": _header(
        "The guard's verdict on the first audio", "ok", is_sure=True, type="string"
    ),
    "X-Audio-Sample-Rate": _header("Hz", 24_000, is_sure=True, type="integer"),
    "X-Audio-Channels": _header("Always one", 1, is_sure=True, type="integer"),
    "X-Audio-Warning": _header(
        "What is wrong with a clip that was used all the same", "quiet, noisy", type="string"
    ),
    "X-Ignored-Fields": _header(
        "Fields that were taken without effect", "instructions", type="string"
    ),
    "X-Provenance": _header(
        "That the audio is synthetic, and how it is marked as such: its watermark, and c2pa where "
        "the file is signed",
        "synthetic, watermark=resemble-perth",
        is_sure=True,
        type="string",
    ),
    "Retry-After": _header(
        "Seconds",
        RETRY_AFTER_S,
        type="integer",
        minimum=1,
        maximum=LONGEST_RETRY_AFTER_S,
    ),
    "X-Should-Retry": _header(
        "false where the same request cannot succeed; OpenAI's clients obey",
        "false",
        enum=["false"],
    ),
    **{
        f"X-RateLimit-{what}-{of}": _header(
            f"{said} of the caller's quota, if any", example, **kind
        )
        for of, unit in (("Requests", "Requests"), ("Audio-Seconds", "Seconds of audio"))
        for what, said, example, kind in (
            ("Limit", f"{unit} in all", 60, _COUNT),
            ("Remaining", f"{unit} that are left", 59, _COUNT),
            ("Reset", f"How long until all is left again: {unit.lower()}", "1m0s", _DURATION),
        )
    },
}
RATE_LIMITS = tuple(name for name in HEADERS if name.startswith("X-RateLimit-"))


def header_references(*names: str) -> dict[str, Any]:
    """Headers of a reply, by name."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def complete(
    page: dict[str, Any], routes: Sequence[BaseRoute], refusal: Callable[[str], dict[str, Any]]
) -> None:
    """Add to every operation what the application around the routes does.

    refusal: makes the documented reply of an error.
    """
    _restore_nulls(page, routes)
    parts = page.setdefault("components", {})
    parts["headers"] = HEADERS
    parts["parameters"] = {
        "RequestId": {
            "name": "X-Request-Id",
            "in": "header",
            "description": "The caller's name for this request; other characters are left out",
            "schema": {**_ID_CHARS, "pattern": "^[A-Za-z0-9_.:/+=@-]*$"},
            "example": "caller-4711",
        }
    }
    for path, method, operation in _operations(page):
        operation["summary"] = operation["summary"].strip()
        operation["operationId"] = operation["operationId"].lstrip("_")
        operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestId"})
        replies = operation["responses"]
        for status in _of_edge(path, method):
            replies.setdefault(str(status), refusal(_EDGE[status]))
        for status, reply in replies.items():
            reply["headers"] = reply.get("headers", {}) | header_references(*_headers_of(status))


def _restore_nulls(page: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """FastAPI leaves every null out of a page, also those of replies shown as examples."""
    for route in routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            replies = page["paths"][route.path_format][method.lower()]["responses"]
            for status, reply in route.responses.items():
                for kind, content in reply.get("content", {}).items():
                    shown = replies[str(status)]["content"][kind]
                    shown |= {key: content[key] for key in _EXAMPLES if key in content}


def _operations(page: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in page["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _of_edge(path: str, method: str) -> Iterator[int]:
    yield from (413, 500)
    if "{" in path:
        yield 404
    if method != "get":
        yield from (429, 503)


def _headers_of(status: str) -> tuple[str, ...]:
    if status == "429":
        return (*OF_ALL, "Retry-After", *RATE_LIMITS)
    if status == "503":
        return (*OF_ALL, "Retry-After")
    return (*OF_ALL, *RATE_LIMITS) if status == "200" else (*OF_ALL, "X-Should-Retry")
