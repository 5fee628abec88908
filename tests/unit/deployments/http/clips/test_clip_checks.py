"""A clip is judged before anything is made of it, and nothing of it is kept."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audio.decode import decode_clip
from tests.audio_files import wav
from tests.http_app import CLIP, error_of, http_app

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]
CHECKS = "/v1/audio/clip_checks"


async def test_the_report_is_that_of_an_upload_and_nothing_is_kept(tmp_path):
    async with http_app(cache={"url": str(tmp_path / "store"), "l2": "off"}) as app:
        before = sorted(tmp_path.rglob("*"))
        report = (await app.http.post(CHECKS, files={"file": CLIP})).json()
        assert sorted(tmp_path.rglob("*")) == before
        kept = await app.http.post(
            "/v1/audio/voices",
            files={"audio_sample": CLIP},
            data={"name": "Zoe", "consent": "I, Zoe, agree.", "ref_text": "Words."},
        )
        assert kept.json()["voice"]["quality"] == report
        assert report["findings"] == []


async def test_a_long_clip_is_told_what_to_cut():
    clip = decode_clip(CLIP)
    silence = np.zeros(clip.sample_rate_hz * 13, np.float32)
    long = np.concatenate([silence, clip.samples, clip.samples, silence])
    async with http_app() as app:
        upload = {"file": wav(long[np.newaxis], clip.sample_rate_hz)}
        report = (await app.http.post(CHECKS, files=upload)).json()
    cut = report["suggested_trim"]
    assert 12 < cut["start_s"] < 13.5
    assert 22 < cut["stop_s"] < 24.5
    assert {"long", "little_speech"} <= {one["code"] for one in report["findings"]}


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"no audio at all", 415, "undecodable_audio"), (CLIP[:400], 422, "clip_duration")],
)
async def test_what_cannot_be_used_is_refused_by_its_field(content, status, code):
    async with http_app() as app:
        reply = await app.http.post(CHECKS, files={"file": content})
    error = error_of(reply)
    assert (reply.status_code, error["code"], error["param"]) == (status, code, "file")


async def test_a_clip_over_the_limit_is_not_decoded():
    async with http_app(voices={"max_upload_bytes": 1_000}) as app:
        reply = await app.http.post(CHECKS, files={"file": CLIP})
    assert (reply.status_code, error_of(reply)["code"]) == (413, "too_large")
