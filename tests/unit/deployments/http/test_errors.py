"""Every error of ours has a status, and no error tells a client what is inside."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator

import pytest

from deployments.http import errors as errors_table
from deployments.http.errors import STATUS_OF, PublicError, answer_error, status_of
from pipeline import errors
from pipeline.errors import (
    CapacityError,
    InputError,
    OverShareError,
    QuotaSpentError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
    TimbreError,
    TooLargeError,
)

pytestmark = pytest.mark.unit

INSIDE = "OSError('s3://bucket/key at http://10.0.0.7:9000 refused: /srv/models/llm.safetensors')"

STATUSES = {
    "TimbreError": 500,
    "InputError": 400,
    "AudioError": 422,
    "UndecodableAudioError": 415,
    "SilentAudioError": 422,
    "ClipDurationError": 422,
    "SampleRateError": 422,
    "TooLargeError": 413,
    "TooSlowError": 408,
    "TextError": 422,
    "UnknownVoiceError": 404,
    "UnknownConsentError": 404,
    "UnknownPronunciationError": 404,
    "NameTakenError": 400,
    "UnknownModelError": 404,
    "UnknownRequestError": 404,
    "UnknownEditError": 404,
    "UnknownJobError": 404,
    "UnknownKeyError": 404,
    "UnauthenticatedError": 401,
    "NoKeyError": 401,
    "ForbiddenError": 403,
    "JobStateError": 400,
    "UnsupportedError": 400,
    "CapacityError": 503,
    "OverShareError": 429,
    "QuotaError": 429,
    "QuotaSpentError": 429,
    "StageError": 500,
    "StageUnavailableError": 503,
    "StageTimeoutError": 504,
    "SetupError": 500,
    "CheckpointError": 500,
    "ConfigError": 500,
    "DownloadError": 500,
}

MAY_PASS = dict.fromkeys(STATUSES, False) | dict.fromkeys(
    [
        "TimbreError",
        "TooSlowError",
        "CapacityError",
        "OverShareError",
        "QuotaError",
        "StageError",
        "StageUnavailableError",
        "StageTimeoutError",
    ],
    True,
)


def tree(root: type[TimbreError] = TimbreError) -> Iterator[type[TimbreError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_every_error_has_its_status(kind: type[TimbreError]) -> None:
    reply = answer_error(kind("what went wrong", param="field"), "id-1")
    body = json.loads(bytes(reply.body))["error"]
    assert reply.status_code == status_of(kind("x")) == STATUSES[kind.__name__]
    assert set(body) == {"message", "type", "param", "code"}
    is_callers = reply.status_code < 500
    kinds = {True: "invalid_request_error", False: "server_error"}
    assert body["type"] == ("insufficient_quota" if kind is QuotaSpentError else kinds[is_callers])
    is_useless = not MAY_PASS[kind.__name__]
    assert reply.headers.get("x-should-retry") == ("false" if is_useless else None)
    is_sent_again = reply.status_code >= 500 or reply.status_code in {408, 429}
    assert is_useless or is_sent_again, "OpenAI's client would not send it again"
    assert reply.status_code != 409, "its client would"
    assert ("retry-after" in reply.headers) == (reply.status_code in {429, 503})
    assert 0 < int(reply.headers.get("retry-after", 1)) <= 120
    if issubclass(kind, InputError | CapacityError):
        assert body == {**body, "message": "what went wrong", "param": "field", "code": kind.code}
    else:
        assert "request id id-1" in body["message"]


@pytest.mark.parametrize(("kind", "status"), [(CapacityError, 503), (OverShareError, 429)])
def test_a_refusal_that_knows_says_how_long_it_will_be(
    kind: type[CapacityError], status: int
) -> None:
    reply = answer_error(kind("busy", wait_s=2.345, retry_after_s=3.2), "id-1")
    assert reply.status_code == status
    assert reply.headers["retry-after"] == "4"  # whole seconds, not too soon
    body = json.loads(bytes(reply.body))["error"]
    assert body["predicted_wait_s"] == 2.35
    assert answer_error(kind("busy", retry_after_s=0.1), "id-1").headers["retry-after"] == "1"


def test_the_table_holds_nothing_else() -> None:
    assert set(STATUS_OF) <= set(tree())
    assert set(errors_table.MAY_PASS) <= set(tree())
    assert {kind.__name__ for kind in tree()} == set(STATUSES)


@pytest.mark.parametrize(
    "error",
    [
        StageError("the vocoder failed", detail=INSIDE),
        StageUnavailableError("a cache tier kept the record", detail=INSIDE),
        StageTimeoutError("the LLM did not answer in time", detail=INSIDE),
        errors.CheckpointError(INSIDE),
        errors.ConfigError(INSIDE),
        TimbreError(INSIDE),
        OSError(INSIDE),
        KeyError(INSIDE),
    ],
    ids=lambda error: type(error).__name__,
)
def test_clients_read_no_internals_and_the_log_has_them(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        reply = answer_error(error, "id-2")
    said = bytes(reply.body).decode()
    assert "id-2" in said
    for part in ("s3:", "10.0.0.7", "/srv", "OSError"):
        assert part not in said
    assert "10.0.0.7" in caplog.text
    assert "id-2" in caplog.text
    assert "Traceback" in caplog.text or error.__traceback__ is None


@pytest.mark.parametrize("error", [CapacityError("full"), TooLargeError("big")])
def test_refusals_leave_no_traceback(error: TimbreError, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        try:
            raise error
        except TimbreError as raised:
            answer_error(raised, "id-3")
    assert "Traceback" not in caplog.text
    assert all(record.levelno < logging.ERROR for record in caplog.records)


def test_a_stages_error_travels_with_its_detail() -> None:
    error = StageUnavailableError("the LLM's replica went away", detail=INSIDE)
    there = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(there) is StageUnavailableError
    assert (there.message, there.detail, str(there)) == (error.message, INSIDE, str(error))
    assert PublicError.of(there, "id").status == 503
