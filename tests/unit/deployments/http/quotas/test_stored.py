"""Quotas of what is kept: voices, their bytes, consents and jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http_app import CLIP, SAID, HttpApp, error_of, http_app, tenant

pytestmark = pytest.mark.unit
VOICES = "/v1/audio/voices"
AGREED = "I agree that my voice is cloned."


@asynccontextmanager
async def keeping(directory: Path, **quota: Any) -> AsyncIterator[HttpApp]:
    async with http_app(
        cache={"url": str(directory), "l2": "off"},
        voices={"consent": "optional"},
        quotas={"tenants": {"mine": quota}},
    ) as app:
        yield app


async def upload(client: httpx.AsyncClient, name: str) -> httpx.Response:
    sent = {"name": name, "ref_text": SAID}
    return await client.post(
        VOICES, data=sent, files={"audio_sample": ("v.wav", CLIP, "audio/wav")}
    )


def check_full(reply: httpx.Response) -> str:
    assert reply.status_code == 429, reply.text
    assert reply.headers["x-should-retry"] == "false"
    assert int(reply.headers["retry-after"]) <= 120
    error = error_of(reply)
    assert error["code"] == error["type"] == "insufficient_quota"
    return error["message"]


async def test_a_tenant_keeps_as_many_voices_as_it_may(tmp_path: Path):
    async with keeping(tmp_path, voices=1) as app:
        mine, yours = tenant(app, "mine"), tenant(app, "yours")
        made = await upload(mine, "Ann")
        assert made.status_code == 200, made.text
        assert "1 voices may be kept" in check_full(await upload(mine, "Bea"))
        assert (await upload(yours, "Bea")).status_code == 200
        assert app.refused == [("voices", "tenant")]
        voice = made.json()["voice"]["id"]
        renamed = await mine.post(f"{VOICES}/{voice}", data={"name": "Anna"})
        assert renamed.status_code == 200
        assert (await mine.delete(f"{VOICES}/{voice}")).status_code == 200
        assert (await upload(mine, "Bea")).status_code == 200
        check_full(await mine.post(f"{VOICES}/{voice}/restore"))


async def test_of_uploads_at_one_time_no_more_stay_than_may(tmp_path: Path):
    async with keeping(tmp_path, voices=1) as app:
        mine = tenant(app, "mine")
        replies = await asyncio.gather(*(upload(mine, f"Voice {number}") for number in range(3)))
        assert sorted(reply.status_code for reply in replies) == [200, 429, 429]
        kept = (await mine.get(VOICES)).json()["uploaded_voices"]
        assert len(kept) == 1
        deleted = (await mine.get(VOICES, params={"deleted": True})).json()
        assert deleted["data"] == []


async def test_a_tenant_keeps_as_many_bytes_as_it_may(tmp_path: Path):
    async with keeping(tmp_path, stored_bytes=int(1.5 * len(CLIP))) as app:
        mine = tenant(app, "mine")
        assert (await upload(mine, "Ann")).status_code == 200
        assert "delete voices or jobs" in check_full(await upload(mine, "Bea"))
        again = {"audio_sample": ("v.wav", CLIP, "audio/wav")}
        check_full(await mine.post(f"{VOICES}/Ann", files=again))
        consent = {"data": {"name": "of Ann", "language": "en"}}
        recording = {"recording": ("r.wav", CLIP, "audio/wav")}
        check_full(await mine.post("/v1/audio/voice_consents", files=recording, **consent))
        job = await mine.post("/v1/audio/jobs", json={"input": "Hello.", "voice": "bruno"})
        assert job.status_code == 200, "there is room for what is being made"


async def test_a_full_tenant_makes_no_jobs(tmp_path: Path):
    async with keeping(tmp_path, stored_bytes=100) as app:
        mine = tenant(app, "mine")
        asked = {"input": "Hello.", "voice": "bruno"}
        assert (await mine.post("/v1/audio/jobs", json=asked)).status_code == 200
        check_full(await mine.post("/v1/audio/jobs", json=asked))
        yours = tenant(app, "yours")
        assert (await yours.post("/v1/audio/jobs", json=asked)).status_code == 200
