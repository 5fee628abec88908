"""The route that says how good a clip is. It keeps nothing."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any

from fastapi import FastAPI, Request

from deployments.config.settings import Settings
from deployments.http.api_pages import BINARY, UNUSABLE, answers, takes
from deployments.http.bodies.budget import BodyBudget
from deployments.http.bodies.read import RawBody, only_clip, read_parts, receive_body
from deployments.http.bodies.uploads import check_size
from deployments.http.dialects.voices import told_quality
from deployments.http.errors import about_clip
from deployments.http.pages.shapes import ClipQuality
from pipeline.audio.condition import Conditioning
from pipeline.audio.decode import ClipLimits
from pipeline.audio.quality.report import assess_clip


class ClipRoutes:
    """The handler. clips: what they may be. budget: of the bodies held."""

    def __init__(
        self,
        settings: Settings,
        clips: ClipLimits,
        conditioning: Conditioning,
        budget: BodyBudget,
    ) -> None:
        self._limits = replace(clips, max_duration_s=settings.limits.max_edit_clip_s)
        self._conditioning = conditioning
        self._max_bytes = settings.voices.max_upload_bytes
        self._budget = budget

    def add_to(self, app: FastAPI) -> None:
        """The route of checks."""
        app.post("/v1/audio/clip_checks", **_DOC)(self._check)

    async def _check(self, request: Request) -> dict[str, Any]:
        """How good a clip is as a voice, what to do about it and what to cut; nothing is kept.

        The form's `file` is audio in any accepted format, as long as `limits.max_edit_clip_s`. The
        report is the one that `POST /v1/audio/voices` answers with.
        """
        with self._budget.hold() as hold:
            return await asyncio.to_thread(self._report, await receive_body(request, hold))

    def _report(self, raw: RawBody) -> dict[str, Any]:
        clip = only_clip(read_parts(raw))
        check_size(clip, self._max_bytes)
        with about_clip(clip[1]):
            return told_quality(asdict(assess_clip(clip[0], self._limits, self._conditioning)))


_FORM = {
    "schema": {"type": "object", "required": ["file"], "properties": {"file": BINARY}},
    "example": {"file": "RIFF…"},
}
_EXAMPLE = {
    "duration_s": 5.134,
    "sample_rate_hz": 22_050,
    "speech_share": 0.83,
    "snr_db": 15.9,
    "clipped_share": 0.0,
    "loudness_lufs": -20.9,
    "peak_dbfs": -1.9,
    "several_speakers": False,
    "suggested_trim": {"start_s": 0.2, "stop_s": 4.9},
    "findings": [],
}
_DOC: dict[str, Any] = {
    **answers(_EXAMPLE, ClipQuality, refused=UNUSABLE),
    **takes({"multipart/form-data": _FORM}),
}
