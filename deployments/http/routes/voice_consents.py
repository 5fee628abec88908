"""Consents over HTTP, as OpenAI's clients ask for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request

from deployments.http.bodies.fields import validated
from deployments.http.bodies.read import RawBody, read_off_loop, receive_body
from deployments.http.bodies.uploads import check_size, mime_type_of, read_upload
from deployments.http.dialects.voices import (
    CONSENT_CLIPS,
    ConsentBody,
    ConsentLabel,
    openai_consent,
)
from deployments.http.errors import about_clip
from deployments.http.routes.enrolled import EnrolledRoutes
from deployments.http.voice_pages import (
    CONSENT_DELETE_DOC,
    CONSENT_DOC,
    CONSENT_LABEL_DOC,
    CONSENT_LIST_DOC,
    CONSENT_LOOK_DOC,
)
from deployments.voices.documents import Consent
from pipeline.audio.decode import ClipLimits, decode_clip

LONGEST_RECORDING_S = 120.0
_ID = "cons_0198f2c19f214b6d8e0f1a2b3c4d5e6f"
ConsentId = Annotated[str, Path(description="As `cons_…`", examples=[_ID])]


class ConsentRoutes(EnrolledRoutes):
    """Consents."""

    def add_to(self, app: FastAPI) -> None:
        """Every route of consents."""
        one = "/v1/audio/voice_consents/{consent_id}"
        app.get("/v1/audio/voice_consents", **CONSENT_LIST_DOC)(self._list)
        app.post("/v1/audio/voice_consents", **CONSENT_DOC)(self._add)
        app.get(one, **CONSENT_LOOK_DOC)(self._look)
        app.post(one, **CONSENT_LABEL_DOC)(self._label)
        app.delete(one, **CONSENT_DELETE_DOC)(self._delete)

    async def _list(
        self,
        request: Request,
        after: Annotated[
            str | None, Query(description="The last id of the page before", examples=[_ID])
        ] = None,
        limit: Annotated[int, Query(ge=1, le=100, description="Of a page")] = 20,
    ) -> dict[str, Any]:
        """Consents, the newest first, a page at a time."""
        page = await self._enrolment.consents.page(self._namespace(request), limit, after or None)
        ids = [stored.id for stored in page.consents]
        return {
            "object": "list",
            "data": [openai_consent(stored) for stored in page.consents],
            "has_more": page.has_more,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }

    async def _add(self, request: Request) -> dict[str, Any]:
        """Keep a consent: a recording of whoever's voice it is saying so, or a text."""
        consents = self._enrolment.consents
        with self._budget.hold() as hold:
            raw = await receive_body(request, hold)
            consent, recording = await asyncio.to_thread(self._consent, raw)
            namespace = self._namespace(request)
            await self._enrolment.check_stored(namespace, len(recording or b""))
            stored = await consents.add(namespace, consent, recording)
        return openai_consent(stored)

    async def _look(self, request: Request, consent_id: ConsentId) -> dict[str, Any]:
        """One consent."""
        found = await self._enrolment.consents.get(self._namespace(request), consent_id)
        return openai_consent(found)

    async def _label(self, request: Request, consent_id: ConsentId) -> dict[str, Any]:
        """Give a consent another label; nothing else of it changes."""
        with self._budget.hold() as hold:
            read = partial(read_upload, clip_fields=())
            fields, _ = await read_off_loop(read, await receive_body(request, hold))
        body = validated(ConsentLabel, fields, tuple(ConsentLabel.model_fields))
        namespace = self._namespace(request)
        return openai_consent(
            await self._enrolment.consents.rename(namespace, consent_id, body.name)
        )

    async def _delete(self, request: Request, consent_id: ConsentId) -> dict[str, Any]:
        """Remove a consent with its recording. Voices that were made under it stay."""
        await self._enrolment.consents.delete(self._namespace(request), consent_id)
        return {"id": consent_id, "object": "audio.voice_consent", "deleted": True}

    def _consent(self, raw: RawBody) -> tuple[Consent, bytes | None]:
        """A body's consent and recording; by any thread, for it decodes the recording."""
        fields, clip = read_upload(raw, CONSENT_CLIPS)
        body = validated(ConsentBody, fields, tuple(ConsentBody.model_fields))
        consent = body.consent(has_recording=clip is not None)
        if clip is None:
            return consent, None
        check_size(clip, self._settings.voices.max_upload_bytes)
        limits: ClipLimits = replace(self._library.clip_limits, max_duration_s=LONGEST_RECORDING_S)
        with about_clip(clip[1]):
            decode_clip(clip[0], limits)
            mime_type = mime_type_of(clip[0])
        return consent.model_copy(update={"mime_type": mime_type}), clip[0]
