"""The lists of voices, in the shapes that clients of the peers read. Knows no cache."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from deployments.http.api_pages import example
from deployments.http.dialects.elevenlabs import listed_voice
from deployments.voices.registry import VoiceRegistry
from pipeline.errors import UnknownVoiceError


def add_voice_routes(app: FastAPI, registry: VoiceRegistry) -> None:
    """The lists, and one voice of them."""

    def described() -> list[dict[str, Any]]:
        """Every voice with the keys of every dialect."""
        return [{**listed_voice(voice), **voice} for voice in registry.describe()]

    @app.get("/v1/voices", responses=example(_VOICES))
    @app.get("/v1/audio/voices", responses=example(_VOICES))
    async def list_voices(*, legacy: bool = False) -> dict[str, Any]:
        """Listed voices. legacy: `voices` holds names alone, as Kokoro and vLLM-Omni once had."""
        voices = described()
        names = [voice["name"] for voice in voices]
        shown: list[Any] = list(names) if legacy else voices
        return {"voices": shown, "uploaded_voices": [], "data": voices, "object": "list"}

    @app.get("/v2/voices", responses=example(_PAGE))
    async def search_voices(search: str = "") -> dict[str, Any]:
        """ElevenLabs' search: every voice whose name holds `search`, on one page."""
        asked = search.strip().lower()
        found = [voice for voice in described() if asked in voice["name"].lower()]
        page = {"has_more": False, "total_count": len(found), "next_page_token": None}
        return {"voices": found, **page}

    @app.get("/v1/voices/{voice_id}", responses=example(_VOICE))
    async def voice(voice_id: str) -> dict[str, Any]:
        """One voice, by its name or another name for it."""
        try:
            found = registry.find(voice_id)
        except UnknownVoiceError as error:
            raise UnknownVoiceError(error.message, param="voice_id") from error
        return next(listed for listed in described() if registry.find(listed["id"]) is found)


_VOICE = {
    "id": "bruno",
    "name": "bruno",
    "voice_id": "bruno",
    "language": "en",
    "object": "voice",
    "category": "premade",
}
_VOICES = {"voices": [_VOICE], "uploaded_voices": [], "data": [_VOICE], "object": "list"}
_PAGE = {"voices": [_VOICE], "has_more": False, "total_count": 1, "next_page_token": None}
