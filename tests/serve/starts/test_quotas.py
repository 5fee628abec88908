"""Quotas on a real cluster: two routers with one book of quotas, which dies while calls go on."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.serve.service_client import cmdline_of
from tests.serve.starts.conftest import FEW, MANY, Guarded
from tests.waiting import wait_until

pytestmark = pytest.mark.serve
OF_NOBODY = "/v1/audio/jobs/job_0"  # counts as a request, costs nothing else
LET_IN, OVER = httpx.codes.NOT_FOUND, httpx.codes.TOO_MANY_REQUESTS
CALLERS, EVERY_S = 4, 0.05
WITHIN = 0.1
MOST_WAIT_S = 120
MINUTE_S = 60.0
RESET = re.compile(r"(1m[01]|[1-5]?[0-9])([.][0-9]+)?s")  # as OpenAI's: 1m0.5s


def book_of(guarded: Guarded) -> psutil.Process | None:
    """The process of the book of quotas."""
    service = psutil.Process(guarded.production.pid)
    for process in service.children(recursive=True):
        if " ".join(cmdline_of(process)).startswith("ray::QuotaBook"):
            return process
    return None


def test_a_tenant_over_its_quota_is_told_when_to_come_again(guarded: Guarded):
    _, headers = guarded.make("jobs", "few")
    _, others = guarded.make("jobs")
    ask = guarded.http.delete
    replies = [ask(OF_NOBODY, headers=headers) for _ in range(2 * FEW)]
    assert [reply.status_code for reply in replies] == [LET_IN] * FEW + [OVER] * FEW
    left = [reply.headers["x-ratelimit-remaining-requests"] for reply in replies]
    assert left == [*map(str, reversed(range(FEW))), *["0"] * FEW]
    for reply in replies:
        assert reply.headers["x-ratelimit-limit-requests"] == str(FEW)
        assert RESET.fullmatch(reply.headers["x-ratelimit-reset-requests"])
    for reply in replies[FEW:]:
        assert 0 < int(reply.headers["retry-after"]) <= MOST_WAIT_S
        assert reply.json()["error"]["code"] == "rate_limit_exceeded"
    assert ask(OF_NOBODY, headers=others).status_code == LET_IN
    assert "x-ratelimit-limit-requests" not in ask(OF_NOBODY, headers=others).headers


@pytest.mark.chaos
def test_when_the_book_dies_no_more_than_the_quota_are_let_in(guarded: Guarded):
    """And not much less: routers go on with their shares, and tell the next book what was spent."""
    _, headers = guarded.make("jobs", "many")
    counts, is_over = Counter[int](), threading.Event()

    def call() -> None:
        with httpx.Client(base_url=guarded.production.url, headers=headers) as http:
            while not is_over.wait(EVERY_S):
                counts[http.delete(OF_NOBODY).status_code] += 1

    began_s = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as callers:
        try:
            calls = [callers.submit(call) for _ in range(CALLERS)]
            wait_until(lambda: counts[LET_IN] >= MANY // 3)
            book = book_of(guarded)
            assert book is not None
            book.kill()
            assert counts[LET_IN] < MANY
            wait_until(lambda: book_of(guarded) not in {None, book})
            wait_until(lambda: counts[LET_IN] >= (1 - WITHIN) * MANY, MINUTE_S)
            time.sleep(2.0)  # both routers have told the new one
        finally:
            is_over.set()
        for one in calls:
            one.result()
    assert time.monotonic() - began_s < MINUTE_S, "what was spent first counts no longer"
    assert counts.keys() == {LET_IN, OVER}
    assert counts[LET_IN] <= (1 + WITHIN) * MANY
