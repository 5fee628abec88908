"""A service's refusals, those of others before it, and a job that is followed past broken lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from deployments.client import job_events
from deployments.client.job_events import followed
from deployments.client.refusals import refusal
from deployments.client.service import Service
from pipeline import errors

pytestmark = pytest.mark.unit
URL = "http://timbre.example/v1/audio/speech"


def reply(status: int, code: str = "", **more: Any) -> httpx.Response:
    error = {"message": "it is so", "code": code, "param": "voice"}
    content = {"json": {"error": error}} if code else {}
    return httpx.Response(status, request=httpx.Request("POST", URL), **content, **more)


@pytest.mark.parametrize(
    ("told", "kind", "says"),
    [
        (reply(400, "invalid_request"), errors.InputError, "it is so"),
        (reply(404, "unknown_voice"), errors.InputError, "it is so"),
        (reply(401, "missing_api_key"), errors.UnauthenticatedError, "set TIMBRE_API_KEY"),
        (reply(403, "insufficient_scope"), errors.ForbiddenError, "it is so"),
        (reply(503, "overloaded", headers={"retry-after": "3"}), errors.CapacityError, "in 3 s"),
        (reply(429, "insufficient_quota"), errors.CapacityError, "it is so"),
        (reply(408, "request_timeout"), errors.CapacityError, "it is so"),
        (reply(503, "stage_unavailable"), errors.StageError, "it is so"),
        (reply(500, "internal_error"), errors.StageError, "it is so"),
        (reply(502, text="<h1>Bad  gateway"), errors.StageUnavailableError, "502: <h1>Bad gateway"),
        (reply(403, text="no"), errors.ForbiddenError, "answered 403"),
        (reply(405, json=["?"]), errors.InputError, "is a timbre there?"),
        (reply(301, headers={"location": "https://b"}), errors.InputError, "leads to https://b"),
    ],
)
def test_a_refusal_is_the_error_that_it_was(told: httpx.Response, kind: type, says: str):
    error = refusal(told)
    assert isinstance(error, kind)
    assert says in error.message


NO_ADDRESSES = ["foo", "ftp://a", "http://", "localhost:8000", "http://a:port", "http://[::1"]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address(url: str):
    with pytest.raises(errors.InputError, match="is no address of a service"):
        Service(url)


@pytest.mark.parametrize("key", ["tk_a\r", "tk_ä"])
def test_what_is_no_key(key: str):
    with pytest.raises(errors.InputError, match="the API key holds a character that no key has"):
        Service("http://a", key)


def test_where_nobody_is():
    with Service("http://127.0.0.1:9") as nobody:
        with pytest.raises(errors.StageUnavailableError, match="nobody answers at"):
            nobody.get("/v1/models")


class BrokenLines:
    """Stands for a service whose connections end in turn as they are told to."""

    url = "http://timbre.example"

    def __init__(self, *connections: list[str] | Exception) -> None:
        self._connections = list(connections)

    @contextmanager
    def streamed(self, method: str, path: str) -> Iterator[Any]:
        del method, path
        lines = self._connections.pop(0)
        if isinstance(lines, Exception):
            raise lines
        yield type("Reply", (), {"iter_lines": lambda _: iter(lines)})()


def job(status: str) -> str:
    return f"data: {json.dumps({'status': status})}"


def test_a_job_is_followed_past_what_breaks_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job_events, "PAUSE_S", 0.0)
    away = errors.StageUnavailableError("away")
    full = errors.CapacityError("full")
    service: Any = BrokenLines(
        ["event: x", job("queued"), ": alive"], away, full, [], [job("running"), job("completed")]
    )
    assert [one["status"] for one in followed(service, "job_1")] == [
        "queued", "running", "completed",
    ]  # fmt: skip


def test_a_job_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job_events, "PAUSE_S", 0.0)
    monkeypatch.setattr(job_events, "MOST_FAILURES", 2)
    away = errors.StageUnavailableError("away")
    service: Any = BrokenLines(away, away, away)
    with pytest.raises(errors.StageUnavailableError):
        list(followed(service, "job_1"))
    silent: Any = BrokenLines([], [": alive"], [])
    with pytest.raises(errors.StageError, match="says nothing of job_1"):
        list(followed(silent, "job_1"))
    gone: Any = BrokenLines(errors.InputError("no such job"))
    with pytest.raises(errors.InputError):
        list(followed(gone, "job_1"))
