"""Whoever asked for it is told of a job's end, once it is sure who that is."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from pathlib import Path

import httpx
import pytest

from deployments.config.job_settings import JobSettings
from deployments.jobs import webhooks
from deployments.jobs.webhooks import SIGNATURE, Webhooks, check_webhook
from pipeline.errors import UnsupportedError
from tests.job_runners import Replica, Tally, add_job, job_done, replicas
from tests.planted import plant
from tests.waiting import until

pytestmark = pytest.mark.unit
URL = "http://127.0.0.1:9/hook"
JOBS = {"webhook_hosts": ("127.0.0.1:9",)}
KEY = plant("a webhook's secret", "s3cret of the test")
SECRET = "TIMBRE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, KEY)
    monkeypatch.setattr(webhooks, "LOOK_S", 0.01)
    monkeypatch.setattr(webhooks, "AGAIN_S", 0.02)


async def test_an_end_is_told_signed_and_again_until_it_is_heard(tmp_path: Path):
    one = Replica(tmp_path, Tally(), jobs=JOBS)
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        moved = {"location": "http://169.254.169.254/"}
        return httpx.Response((302, 500, 204)[min(len(sent), 3) - 1], headers=moved)

    hooks = Webhooks(one.settings.jobs, one.store, httpx.MockTransport(answer))
    async with replicas(one):
        task = asyncio.create_task(hooks.run())
        job = await add_job(one, ["One."], webhook=URL, label="mine")
        await job_done(one, job)
        await until(lambda: len(sent) == 3)
        await asyncio.sleep(0.2)
        task.cancel()
        assert len(sent) == 3, "heard once, it is not told again"
        assert await one.store.hooks() == []
    for request in sent:
        assert str(request.url) == URL, "no redirect is followed"
        at, _, mac = request.headers[SIGNATURE].partition(",v1=")
        signed = at.removeprefix("t=").encode() + b"." + request.content
        assert mac == hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
        event = json.loads(request.content)
        assert event["type"] == "audio.job.completed"
        assert event["data"] == {
            "id": job.name.id, "label": "mine", "status": "completed", "segments": 1,
            "bad": 0, "failed": 0,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("hosts", "url", "says"),
    [
        ((), URL, "webhook_hosts is empty"),
        (("other.example",), URL, "not allowed"),
        (("127.0.0.1:9",), "not a url", "begins with https"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused_at_once(
    hosts: tuple[str, ...], url: str, says: str
):
    with pytest.raises(UnsupportedError, match=says) as caught:
        check_webhook(JobSettings(webhook_hosts=hosts), url)
    assert caught.value.param == "webhook"


def test_nothing_is_told_unsigned(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(SECRET)
    with pytest.raises(UnsupportedError, match="no secret"):
        check_webhook(JobSettings(webhook_hosts=("127.0.0.1:9",)), URL)
