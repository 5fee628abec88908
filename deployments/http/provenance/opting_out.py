"""Who asks for audio without a mark, and whether they may."""

from __future__ import annotations

import logging

from starlette.requests import HTTPConnection

from deployments.access.caller import Scope
from deployments.http.tenant import caller_of
from pipeline.errors import MAX_FOUND, ForbiddenError, InputError

logger = logging.getLogger(__name__)

HEADER = "X-Mark"
_ON, _OFF = frozenset({"on", "true", "1"}), frozenset({"off", "false", "0"})


def is_marked(
    connection: HTTPConnection, namespace: str, asked: bool | None = None, request_id: str = ""
) -> bool:
    """Whether what a request asks for is marked, as far as that is the caller's to say.

    asked: by the body; None where it says nothing. request_id: of a part of the request. Whoever
    goes without a mark is logged. Raises ForbiddenError for a key without the scope.
    """
    is_out = asked is False or _is_off(connection)
    if not is_out:
        return True
    caller = caller_of(connection, namespace)
    if not caller.may(Scope.UNMARKED):
        raise ForbiddenError(
            f"audio without a mark needs a key with the scope {Scope.UNMARKED}",
            param="mark" if asked is False else HEADER,
            scope=Scope.UNMARKED,
        )
    logger.warning(
        "request %s of %s, key %s: audio without a mark",
        request_id or connection.state.request_id,
        caller.namespace,
        caller.key_id or "none",
    )
    return False


def _is_off(connection: HTTPConnection) -> bool:
    said = connection.headers.get(HEADER, "on").strip().lower()
    if said not in _ON | _OFF:
        raise InputError(
            f"the header {HEADER} is {said[:MAX_FOUND]!r}; allowed: on, off", param=HEADER
        )
    return said in _OFF
