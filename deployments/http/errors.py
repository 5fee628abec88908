"""The one table from our error tree to HTTP, and the shape errors travel in (OpenAI's).

A client learns its mistake or the failed stage; causes are for the log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.responses import JSONResponse

from pipeline.errors import (
    AudioError,
    CapacityError,
    ForbiddenError,
    InputError,
    OverShareError,
    QuotaSpentError,
    SetupError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
    TextError,
    TimbreError,
    TooLargeError,
    TooSlowError,
    UnauthenticatedError,
    UndecodableAudioError,
    UnknownConsentError,
    UnknownEditError,
    UnknownJobError,
    UnknownKeyError,
    UnknownModelError,
    UnknownPronunciationError,
    UnknownRequestError,
    UnknownVoiceError,
)

logger = logging.getLogger(__name__)
Entry = TypeVar("Entry")

RETRY_AFTER_S = 1  # OpenAI's client keeps to 120 at most, and takes more as a no
SERVER_FAULT = 500
NO_RETRY = {"X-Should-Retry": "false"}  # its client sends 408, 409, 429 and 5xx again without

# The first entry that matches an error's class or one of its bases, most specific first, decides.
STATUS_OF: dict[type[TimbreError], int] = {
    TooLargeError: 413,
    TooSlowError: 408,
    UnknownVoiceError: 404,
    UnknownConsentError: 404,
    UnknownPronunciationError: 404,
    UnknownModelError: 404,
    UnknownRequestError: 404,
    UnknownEditError: 404,
    UnknownJobError: 404,
    UnknownKeyError: 404,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    UndecodableAudioError: 415,
    AudioError: 422,
    TextError: 422,
    InputError: 400,
    OverShareError: 429,
    CapacityError: 503,
    StageTimeoutError: 504,
    StageUnavailableError: 503,
    StageError: 500,
    TimbreError: 500,
}

# Whether the same request may succeed when it is sent again; read as the table above is.
MAY_PASS: dict[type[TimbreError], bool] = {
    TooSlowError: True,
    InputError: False,
    QuotaSpentError: False,
    CapacityError: True,
    StageError: True,
    SetupError: False,  # until somebody mends the service
    TimbreError: True,  # nobody foresaw it: it may have been the moment's
}


def status_of(error: TimbreError) -> int:
    """HTTP status of an error: the table's entry for its class, or for the nearest base."""
    return _entry(STATUS_OF, type(error))


def may_pass(error: Exception) -> bool:
    """Whether it is worth sending the same request again. Not only ours: any error."""
    return _entry(MAY_PASS, type(error)) if isinstance(error, TimbreError) else True


def _entry(table: Mapping[type[TimbreError], Entry], kind: type[TimbreError]) -> Entry:
    return next(table[base] for base in kind.__mro__ if base in table)


@dataclass(frozen=True, slots=True)
class PublicError:
    """An error as a client may read it.

    status: of a reply that has not begun. message, code, param: of the body. wait_s: predicted
    seconds until the same could be served, of a refusal that knows.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    wait_s: float | None = None

    @classmethod
    def of(cls, error: Exception, request_id: str) -> PublicError:
        """The public part of an error.

        Callers' mistakes and a full service: the whole error. A failed stage: its message. Others:
        nothing. The last two with the request id, which finds the cause in the log.
        """
        if isinstance(error, InputError | CapacityError):
            wait_s = error.wait_s if isinstance(error, CapacityError) else None
            return cls(status_of(error), error.message, error.code, error.param, wait_s)
        if isinstance(error, StageError):
            message = f"{error.message}; request id {request_id}"
            return cls(status_of(error), message, error.code, error.param)
        message = f"something went wrong inside; request id {request_id}"
        return cls(SERVER_FAULT, message, TimbreError.code)

    def body(self) -> dict[str, Any]:
        """For JSON; see `error_body`. With `predicted_wait_s` where it is known."""
        body = error_body(self.message, self.status, code=self.code, param=self.param)
        if self.wait_s is not None:
            body["error"]["predicted_wait_s"] = round(self.wait_s, 2)
        return body


@contextmanager
def about_clip(param: str, voice_param: str = "voice") -> Iterator[None]:
    """Faults of a reference clip name `param`, the field that it came in.

    Those of a voice's name say voice_param.
    """
    try:
        yield
    except (AudioError, TooLargeError) as error:
        raise error.about(param) from error
    except UnknownVoiceError as error:
        is_named = error.param not in {None, "voice"}
        raise UnknownVoiceError(
            error.message, param=error.param if is_named else voice_param
        ) from error


def answer_error(error: Exception, request_id: str) -> JSONResponse:
    """The reply to a request that failed before anything was sent; the cause goes to the log."""
    public = PublicError.of(error, request_id)
    if isinstance(error, CapacityError):
        logger.warning("request %s refused: %s", request_id, error)
    elif public.status >= SERVER_FAULT:
        logger.error("request %s failed: %s", request_id, error, exc_info=error)
    headers = {**retry_headers(public.status, error), **_challenge(error)}
    return JSONResponse(public.body(), public.status, headers)


def _challenge(error: Exception) -> dict[str, str]:
    """What a key must be, of a refusal for want of one (RFC 6750)."""
    if isinstance(error, UnauthenticatedError):
        return {"WWW-Authenticate": 'Bearer realm="timbre"'}
    if isinstance(error, ForbiddenError) and error.scope:
        lacks = f'error="insufficient_scope", scope="{error.scope}"'
        return {"WWW-Authenticate": f'Bearer realm="timbre", {lacks}'}
    return {}


def error_body(message: str, status: int, *, code: str, param: str | None = None) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}` as OpenAI's clients read it."""
    kind = "invalid_request_error" if status < SERVER_FAULT else "server_error"
    if code == QuotaSpentError.code:
        kind = code
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def retry_headers(status: int, error: Exception) -> dict[str, str]:
    """When to retry, where it may succeed soon; that it is useless, where it is."""
    told = {} if may_pass(error) else NO_RETRY
    if status not in {429, 503} or not (may_pass(error) or isinstance(error, CapacityError)):
        return told
    after_s = error.retry_after_s if isinstance(error, CapacityError) else None
    wait_s = RETRY_AFTER_S if after_s is None else max(math.ceil(after_s), 1)
    return {**told, "Retry-After": str(wait_s)}
