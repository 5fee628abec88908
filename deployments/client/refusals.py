"""A service's refusals as the errors that they were inside it."""

from __future__ import annotations

from typing import Any

import httpx

from pipeline.errors import (
    CapacityError,
    ForbiddenError,
    InputError,
    StageError,
    StageUnavailableError,
    TimbreError,
    UnauthenticatedError,
)

SHOWN_CHARS = 200  # of a reply that is not ours
FULL = frozenset({"overloaded", "rate_limit_exceeded", "insufficient_quota"})
HOW_TO_SEND = "set TIMBRE_API_KEY (or --api-key)"


def refusal(reply: httpx.Response) -> TimbreError:
    """The error of a reply that is none of 2xx; its body has been read."""
    status, told = reply.status_code, _told(reply)
    if told is None:
        return _of_a_stranger(reply)
    message, code, param = (str(told.get("message")), str(told.get("code")), told.get("param"))
    if status == httpx.codes.UNAUTHORIZED:
        return UnauthenticatedError(f"{message}; {HOW_TO_SEND}", param=param)
    if status == httpx.codes.FORBIDDEN:
        return ForbiddenError(message, param=param)
    if code in FULL or status in {429, 408}:
        after = reply.headers.get("retry-after")
        later = f"; again in {after} s" if after and after.isdigit() else ""
        return CapacityError(f"{message}{later}", param=param)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return StageError(message, param=param)
    return InputError(message, param=param)


def _told(reply: httpx.Response) -> dict[str, Any] | None:
    """The error in OpenAI's shape; None for anything else."""
    try:
        error = reply.json()["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, dict) else None


def _of_a_stranger(reply: httpx.Response) -> TimbreError:
    """Of an edge before the service, or of another program."""
    url, status = reply.request.url, reply.status_code
    if reply.is_redirect:
        return InputError(f"{url} leads to {reply.headers.get('location')}: give that address")
    words = " ".join(reply.text.split())[:SHOWN_CHARS]
    said = f"{url} answered {status}{f': {words}' if words else ''}"
    if status in {401, 403, 407}:
        return ForbiddenError(said)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return StageUnavailableError(said)
    return InputError(f"{said}; is a timbre there?")
