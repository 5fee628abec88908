"""Uploaded voices over HTTP, as ElevenLabs' clients add, edit and delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse, Response

from deployments.http.bodies.read import RawBody, read_off_loop, receive_body
from deployments.http.bodies.uploads import checked_clip, read_upload
from deployments.http.dialects.elevenlabs_voices import ELEVENLABS_CLIPS, read_elevenlabs_voice
from deployments.http.dialects.voices import voice_request
from deployments.http.errors import about_clip
from deployments.http.routes.enrolled import EnrolledRoutes
from deployments.http.voice_pages import ADD_DOC, DELETE_CLONE_DOC, EDIT_DOC
from deployments.voices.enrolment import VoiceRequest
from pipeline.errors import InputError

CLIP, VOICE = "files", "voice_id"  # what their errors name
DONE = {"status": "ok"}
VoiceId = Annotated[str, Path(description="A name or an id", examples=["bruno"])]


@dataclass(frozen=True, slots=True, eq=False)
class ToKeep:
    """What a body asks to be kept, and what of it is taken without effect."""

    request: VoiceRequest
    ignored: Sequence[str]

    def answer(self, content: dict[str, Any]) -> Response:
        told = {"X-Ignored-Fields": ", ".join(self.ignored)} if self.ignored else None
        return JSONResponse(content, headers=told)


class ElevenLabsVoiceRoutes(EnrolledRoutes):
    """ElevenLabs' voices."""

    def add_to(self, app: FastAPI) -> None:
        """Their three routes; the lists are of routes.voices."""
        app.post("/v1/voices/add", **ADD_DOC)(self._add)
        app.post("/v1/voices/{voice_id}/edit", **EDIT_DOC)(self._edit)
        app.delete("/v1/voices/{voice_id}", **DELETE_CLONE_DOC)(self._delete)

    async def _add(self, request: Request) -> Response:
        """Keep a voice: a form with `name`, one clip in `files`, and the rest in `labels`.

        labels: `{"consent": "cons_…", "ref_text": "what is said in the clip", "language": "en"}`.
        A voice whose words are not known cannot speak in this dialect, whose requests cannot tell;
        where a recogniser is deployed (`asr.enabled`), it hears them.
        """
        with self._budget.hold() as hold:
            asked = await read_off_loop(self._read, await receive_body(request, hold))
            if asked.request.clip is None:
                raise InputError("files is required: a clip of the voice", param=CLIP)
            with about_clip(CLIP):
                made = await self._enrolment.add(self._namespace(request), asked.request)
        return asked.answer({"voice_id": made.id, "requires_verification": False})

    async def _edit(self, request: Request, voice_id: VoiceId) -> Response:
        """Rename a voice, or keep another version of it: a clip, a transcript, …"""
        with self._budget.hold() as hold:
            asked = await read_off_loop(self._read, await receive_body(request, hold))
            with about_clip(CLIP, VOICE):
                await self._enrolment.change(self._namespace(request), voice_id, asked.request)
        return asked.answer(DONE)

    async def _delete(self, request: Request, voice_id: VoiceId) -> dict[str, Any]:
        """Delete an uploaded voice. It can be restored for `voices.keep_deleted_s`."""
        with about_clip(CLIP, VOICE):
            await self._enrolment.delete(self._namespace(request), voice_id)
        return DONE

    def _read(self, raw: RawBody) -> ToKeep:
        """A body as a request, by any thread."""
        fields, clip = read_upload(raw, ELEVENLABS_CLIPS)
        body, ignored = read_elevenlabs_voice(fields)
        content, mime_type = checked_clip(clip, self._settings.voices.max_upload_bytes)
        return ToKeep(voice_request(body, self._settings.limits, content, mime_type), ignored)
