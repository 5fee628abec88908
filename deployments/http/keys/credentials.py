"""The key that came with a request: in a header, never in the address, which logs keep."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers

from pipeline.errors import UnauthenticatedError

_IN_SUBPROTOCOL = "openai-insecure-api-key."  # OpenAI's: a browser's WebSocket sets no header
MISSING = (
    "an API key is needed, as Authorization: Bearer … or xi-api-key; a key in the address is not "
    "taken"
)


def presented(headers: Headers, subprotocols: Sequence[str] = ()) -> str | None:
    """The key, None without one. subprotocols: that a WebSocket offers.

    Raises UnauthenticatedError for keys that differ.
    """
    found = {key for key in map(_bearer, headers.getlist("authorization")) if key}
    found |= {key for one in headers.getlist("xi-api-key") if (key := one.strip())}
    found |= {
        key for one in subprotocols if is_key(one) and (key := one.removeprefix(_IN_SUBPROTOCOL))
    }
    if len(found) > 1:
        raise UnauthenticatedError("the request brings more than one API key")
    return next(iter(found), None)


def is_key(subprotocol: str) -> bool:
    """Whether what a WebSocket offers is a key."""
    return subprotocol.startswith(_IN_SUBPROTOCOL)


def _bearer(header: str) -> str:
    """Empty for another scheme."""
    scheme, _, key = header.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
