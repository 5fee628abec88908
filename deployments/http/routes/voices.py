"""The lists of voices, in the shapes that clients of the peers read."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request

from deployments.http.api_pages import answers
from deployments.http.dialects.elevenlabs import listed_voice
from deployments.http.pages.shapes import ListedVoice, VoiceList, VoicePage
from deployments.http.tenant import namespace_of
from deployments.voices.resolver import VoiceLibrary
from pipeline.errors import MAX_FOUND, UnknownVoiceError

Legacy = Annotated[bool, Query(description="`voices` as names alone")]
Search = Annotated[str, Query(description="Part of a name", examples=["bru"])]
VoiceId = Annotated[str, Path(description="A name, an alias or an id", examples=["bruno"])]


def add_voice_routes(app: FastAPI, library: VoiceLibrary) -> None:
    """The lists, and one voice of them; `/v1/audio/voices` is of the uploaded voices' routes."""
    registry = library.registry

    async def described(request: Request) -> list[dict[str, Any]]:
        """Every voice of the caller."""
        namespace = namespace_of(request, library.namespace)
        uploaded = await registry.uploaded.list(namespace) if registry.uploaded else []
        return [_shown(voice) for voice in registry.describe(uploaded)]

    @app.get("/v1/voices", **_LIST_DOC)
    async def list_voices(request: Request, *, legacy: Legacy = False) -> dict[str, Any]:
        """Built-in and uploaded voices. legacy: `voices` holds names alone, as Kokoro once had."""
        voices = await described(request)
        shown: list[Any] = [voice["name"] for voice in voices] if legacy else voices
        return {"voices": shown, "data": voices, "object": "list"}

    @app.get("/v2/voices", **_PAGE_DOC)
    async def search_voices(request: Request, search: Search = "") -> dict[str, Any]:
        """ElevenLabs' search: every voice whose name holds `search`, on one page."""
        asked = search.strip().lower()
        found = [one for one in await described(request) if asked in one["name"].lower()]
        page = {"has_more": False, "total_count": len(found), "next_page_token": None}
        return {"voices": found, **page}

    @app.get("/v1/voices/{voice_id}", **_VOICE_DOC)
    async def voice(request: Request, voice_id: VoiceId) -> dict[str, Any]:
        """One voice, by its name, an alias or its id."""
        if (name := registry.built_in_name(voice_id)) is not None:
            return _shown(registry.describe_one(name))
        stored = None
        if registry.uploaded is not None:
            namespace = namespace_of(request, library.namespace)
            stored = await registry.uploaded.find(namespace, voice_id)
        if stored is None:
            raise UnknownVoiceError(
                f"no voice is named {voice_id[:MAX_FOUND]!r}; GET /v1/voices lists them",
                param="voice_id",
            )
        return _shown(registry.describe([stored])[-1])


def _shown(voice: dict[str, Any]) -> dict[str, Any]:
    """A voice with the keys of every dialect."""
    return {**listed_voice(voice), **voice}


_VOICE = {
    "id": "bruno",
    "name": "bruno",
    "voice_id": "bruno",
    "language": "en",
    "object": "voice",
    "category": "premade",
    "labels": {"language": "en"},
    "description": None,
    "preview_url": None,
    "samples": None,
    "settings": None,
    "available_for_tiers": [],
    "high_quality_base_model_ids": [],
}
_LIST_DOC = answers(
    {"voices": [_VOICE], "data": [_VOICE], "object": "list"}, VoiceList, refused=(400, 503)
)
_PAGE_DOC = answers(
    {"voices": [_VOICE], "has_more": False, "total_count": 1, "next_page_token": None},
    VoicePage,
    refused=(503,),
)
_VOICE_DOC = answers(_VOICE, ListedVoice, refused=(404, 503))
