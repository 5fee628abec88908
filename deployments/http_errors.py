"""The one table from our error tree to HTTP, and the shape errors travel in (OpenAI's)."""

from __future__ import annotations

from typing import Any

from pipeline.errors import (
    AudioError,
    CapacityError,
    InputError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
    TextError,
    TimbreError,
    TooLargeError,
    UndecodableAudioError,
    UnknownModelError,
    UnknownVoiceError,
)

RETRY_AFTER_S = 1

# The first entry that matches an error's class or one of its bases, most specific first, decides.
STATUS_OF: dict[type[TimbreError], int] = {
    TooLargeError: 413,
    UnknownVoiceError: 404,
    UnknownModelError: 404,
    UndecodableAudioError: 415,
    AudioError: 422,
    TextError: 422,
    InputError: 400,
    CapacityError: 503,
    StageTimeoutError: 504,
    StageUnavailableError: 503,
    StageError: 500,
    TimbreError: 500,
}


def status_of(error: TimbreError) -> int:
    """HTTP status of an error: the table's entry for its class, or for the nearest base."""
    for base in type(error).__mro__:
        if base in STATUS_OF:
            return STATUS_OF[base]
    return STATUS_OF[TimbreError]


def error_body(message: str, status: int, *, code: str, param: str | None = None) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}` as OpenAI's clients read it."""
    kind = "invalid_request_error" if status < 500 else "server_error"  # noqa: PLR2004
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def retry_headers(status: int) -> dict[str, str]:
    """Retry-After where retrying makes sense."""
    return {"Retry-After": str(RETRY_AFTER_S)} if status in {429, 503} else {}
