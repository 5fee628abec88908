"""Uploaded voices over HTTP: list, upload, look, change, delete, restore."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request

from deployments.http.bodies.fields import validated
from deployments.http.bodies.read import RawBody, read_off_loop, receive_body
from deployments.http.bodies.uploads import checked_clip, read_upload
from deployments.http.dialects.voices import (
    VOICE_CLIPS,
    VoiceBody,
    omni_voice,
    openai_voice,
    voice_request,
    voice_version,
)
from deployments.http.errors import about_clip
from deployments.http.routes.enrolled import EnrolledRoutes
from deployments.http.voice_pages import (
    CHANGE_DOC,
    DELETE_DOC,
    LIST_DOC,
    LOOK_DOC,
    RESTORE_DOC,
    UPLOAD_DOC,
)
from deployments.voices.consents import is_consent_id
from deployments.voices.enrolment import VoiceRequest
from deployments.voices.registry import DEFAULT_NAME
from deployments.voices.states import is_voice_id

Voice = Annotated[str, Path(description="A name or an id", examples=["bruno"])]


class VoiceRoutes(EnrolledRoutes):
    """Uploaded voices."""

    def add_to(self, app: FastAPI) -> None:
        """Every route of uploaded voices."""
        app.get("/v1/audio/voices", **LIST_DOC)(self._list)
        app.post("/v1/audio/voices", **UPLOAD_DOC)(self._upload)
        app.get("/v1/audio/voices/{voice}", **LOOK_DOC)(self._look)
        app.post("/v1/audio/voices/{voice}", **CHANGE_DOC)(self._change)
        app.delete("/v1/audio/voices/{voice}", **DELETE_DOC)(self._delete)
        app.post("/v1/audio/voices/{voice}/restore", **RESTORE_DOC)(self._restore)

    async def _list(
        self,
        request: Request,
        legacy: Annotated[bool, Query(description="`voices` as names alone")] = False,
        deleted: Annotated[
            bool, Query(description="Only uploaded voices that can be restored")
        ] = False,
    ) -> dict[str, Any]:
        """Every voice, in the shapes that clients of the peers read.

        `voices` and `data`: built-in and uploaded ones. `uploaded_voices`: these alone, in full.
        """
        namespace = self._namespace(request)
        registry = self._library.registry
        if deleted:
            gone = await self._enrolment.voices.list_deleted(namespace)
            return {"object": "list", "data": [openai_voice(voice) for voice in gone]}
        uploaded = await registry.uploaded.list(namespace) if registry.uploaded else []
        data = registry.describe(uploaded)
        names = [DEFAULT_NAME, *sorted(voice["name"] for voice in data)]
        return {
            "object": "list",
            "voices": names if legacy else data,
            "uploaded_voices": [omni_voice(voice) for voice in uploaded],
            "data": data,
        }

    async def _upload(self, request: Request) -> dict[str, Any]:
        """Keep a voice: a clip with its transcript and somebody's consent, as a form or as JSON.

        When this answers, the voice is encoded and stored: any replica and any restart has it. The
        reply says how good the clip is and what to do about it. Without `ref_text` a recogniser,
        where one is deployed, hears what is said: `transcript_source` is then asr.
        """
        with self._budget.hold() as hold:
            parsed = await read_off_loop(self._parsed, await receive_body(request, hold))
            with about_clip("audio_sample"):
                made = await self._enrolment.add(self._namespace(request), parsed)
        if isinstance(parsed.consent, str) and is_consent_id(parsed.consent):
            return openai_voice(made)
        return {"success": True, "voice": omni_voice(made)}

    async def _look(self, request: Request, voice: Voice) -> dict[str, Any]:
        """One voice, by its name or id, with every version of it."""
        registry = self._library.registry
        built_in = registry.built_in_name(voice)
        if built_in is not None:
            return registry.describe_one(built_in)
        voices = self._enrolment.voices
        found = await voices.get(self._namespace(request), voice)
        versions = await voices.versions(found)
        return openai_voice(found) | {"versions": [voice_version(one) for one in versions]}

    async def _change(self, request: Request, voice: Voice) -> dict[str, Any]:
        """Rename a voice (`name`), or keep another version of it: a clip, a transcript, …

        Earlier versions stay and are spoken in by `{id}@{version}`.
        """
        with self._budget.hold() as hold:
            parsed = await read_off_loop(self._parsed, await receive_body(request, hold))
            with about_clip("audio_sample"):
                changed = await self._enrolment.change(self._namespace(request), voice, parsed)
        return openai_voice(changed)

    async def _delete(
        self,
        request: Request,
        voice: Voice,
        purge: Annotated[bool, Query(description="For good: it cannot be restored")] = False,
    ) -> dict[str, Any]:
        """Delete a voice by its id (the reply is OpenAI's) or name (vLLM-Omni's).

        It can be restored for `voices.keep_deleted_s`. Its consent stays.
        """
        gone = await self._enrolment.delete(self._namespace(request), voice, is_purged=purge)
        if is_voice_id(voice):
            return {"id": gone.id, "object": "audio.voice.deleted", "deleted": True}
        message = f"Voice '{gone.state.name}' deleted successfully"
        return {"success": True, "message": message, "id": gone.id}

    async def _restore(self, request: Request, voice: Voice) -> dict[str, Any]:
        """Bring a deleted voice back by its id; `name` in the body gives it another name."""
        with self._budget.hold() as hold:
            raw = await receive_body(request, hold)
            parsed = self._parsed(raw) if raw.content.strip() else VoiceRequest()
        restored = await self._enrolment.restore(self._namespace(request), voice, parsed.name)
        return openai_voice(restored)

    def _parsed(self, raw: RawBody) -> VoiceRequest:
        """A body as a request, by any thread."""
        fields, clip = read_upload(raw, VOICE_CLIPS)
        body = validated(VoiceBody, fields, tuple(VoiceBody.model_fields))
        content, mime_type = checked_clip(clip, self._settings.voices.max_upload_bytes)
        return voice_request(body, self._settings.limits, content, mime_type)
