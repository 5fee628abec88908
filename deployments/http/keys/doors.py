"""Which scope each route needs: one table, by method and path, that a test holds to be whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deployments.access.caller import Caller, Scope

SOCKET = "WEBSOCKET"  # the method of a WebSocket's route


@dataclass(frozen=True, slots=True)
class Door:
    """scopes: any of them opens it; none: whoever holds a key. is_open: for those without, too."""

    scopes: tuple[Scope, ...] = ()
    is_open: bool = False

    def lets_in(self, caller: Caller) -> bool:
        return not self.scopes or any(caller.may(scope) for scope in self.scopes)


OPEN = Door(is_open=True)
ANY_KEY = Door()
SPEAK, VOICES, EDITS = Door((Scope.SPEAK,)), Door((Scope.VOICES,)), Door((Scope.EDITS,))
JOBS, CACHE, ADMIN = Door((Scope.JOBS,)), Door((Scope.CACHE,)), Door((Scope.ADMIN,))
WHO_SPEAKS = Door((Scope.SPEAK, Scope.VOICES, Scope.EDITS, Scope.JOBS))
READ_OUT = Door((Scope.SPEAK, Scope.VOICES))
HAS_CLIPS = Door((Scope.SPEAK, Scope.VOICES, Scope.EDITS))

DOORS: Mapping[tuple[str, str], Door] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/v1/health"): OPEN,
    ("GET", "/readyz"): OPEN,  # its detail is for the scope admin
    ("GET", "/health"): OPEN,
    ("GET", "/ui"): OPEN,  # the page: files that are the same for all, and ask for a key themselves
    ("GET", "/ui/{name:path}"): OPEN,
    ("GET", "/"): ANY_KEY,
    ("GET", "/docs"): ANY_KEY,
    ("GET", "/openapi.json"): ANY_KEY,
    ("GET", "/swagger/swagger-ui-bundle.js"): ANY_KEY,
    ("GET", "/swagger/swagger-ui.css"): ANY_KEY,
    ("GET", "/swagger/favicon-32x32.png"): ANY_KEY,
    ("GET", "/v1/tags"): ANY_KEY,
    ("GET", "/v1/models"): ANY_KEY,
    ("GET", "/v1/models/{name:path}"): ANY_KEY,
    ("POST", "/v1/audio/speech"): SPEAK,
    ("POST", "/v1/audio/speech/upload"): SPEAK,
    ("POST", "/v1/audio/speech/batch"): SPEAK,
    (SOCKET, "/v1/audio/speech/stream"): SPEAK,
    ("GET", "/v1/audio/speech/{request_id:path}"): SPEAK,
    ("POST", "/v1/tts"): SPEAK,
    ("POST", "/v1/text-to-speech/{voice_id}"): SPEAK,
    ("POST", "/v1/text-to-speech/{voice_id}/stream"): SPEAK,
    ("POST", "/v1/text-to-dialogue"): SPEAK,
    ("POST", "/v1/text-to-dialogue/stream"): SPEAK,
    ("GET", "/v1/voices"): WHO_SPEAKS,
    ("GET", "/v2/voices"): WHO_SPEAKS,
    ("GET", "/v1/voices/{voice_id}"): WHO_SPEAKS,
    ("GET", "/v1/audio/voices"): WHO_SPEAKS,
    ("POST", "/v1/voices/add"): VOICES,
    ("POST", "/v1/voices/{voice_id}/edit"): VOICES,
    ("DELETE", "/v1/voices/{voice_id}"): VOICES,
    ("POST", "/v1/audio/voices"): VOICES,
    ("GET", "/v1/audio/voices/{voice}"): VOICES,
    ("POST", "/v1/audio/voices/{voice}"): VOICES,
    ("DELETE", "/v1/audio/voices/{voice}"): VOICES,
    ("POST", "/v1/audio/voices/{voice}/restore"): VOICES,
    ("GET", "/v1/audio/voice_consents"): VOICES,
    ("POST", "/v1/audio/voice_consents"): VOICES,
    ("GET", "/v1/audio/voice_consents/{consent_id}"): VOICES,
    ("POST", "/v1/audio/voice_consents/{consent_id}"): VOICES,
    ("DELETE", "/v1/audio/voice_consents/{consent_id}"): VOICES,
    ("GET", "/v1/audio/pronunciations"): READ_OUT,
    ("POST", "/v1/audio/pronunciations"): VOICES,
    ("GET", "/v1/audio/pronunciations/{pronunciation_id}"): READ_OUT,
    ("POST", "/v1/audio/pronunciations/{pronunciation_id}"): VOICES,
    ("DELETE", "/v1/audio/pronunciations/{pronunciation_id}"): VOICES,
    ("POST", "/v1/audio/clip_checks"): HAS_CLIPS,
    ("GET", "/v1/audio/edits"): EDITS,
    ("POST", "/v1/audio/edits"): EDITS,
    ("GET", "/v1/audio/edits/{edit}"): EDITS,
    ("DELETE", "/v1/audio/edits/{edit}"): EDITS,
    ("GET", "/v1/audio/edits/{edit}/steps/{step}"): EDITS,
    ("GET", "/v1/audio/edits/{edit}/steps/{step}/audio"): EDITS,
    ("POST", "/v1/audio/jobs"): JOBS,
    ("GET", "/v1/audio/jobs"): JOBS,
    ("GET", "/v1/audio/jobs/{job_id}"): JOBS,
    ("DELETE", "/v1/audio/jobs/{job_id}"): JOBS,
    ("GET", "/v1/audio/jobs/{job_id}/events"): JOBS,
    ("POST", "/v1/audio/jobs/{job_id}/pause"): JOBS,
    ("POST", "/v1/audio/jobs/{job_id}/resume"): JOBS,
    ("POST", "/v1/audio/jobs/{job_id}/cancel"): JOBS,
    ("GET", "/v1/audio/jobs/{job_id}/segments"): JOBS,
    ("GET", "/v1/audio/jobs/{job_id}/segments/{segment}"): JOBS,
    ("GET", "/v1/audio/jobs/{job_id}/segments/{segment}/audio"): JOBS,
    ("POST", "/v1/audio/jobs/{job_id}/segments/{segment}/regenerate"): JOBS,
    ("GET", "/v1/audio/jobs/{job_id}/audio"): JOBS,
    ("GET", "/v1/audio/jobs/{job_id}/subtitles"): JOBS,
    ("GET", "/v1/audio/jobs/{job_id}/manifest"): JOBS,
    ("POST", "/v1/content_provenance_checks"): ANY_KEY,
    ("GET", "/v1/cache"): ADMIN,  # counts of all tenants together
    ("GET", "/v1/cache/savings"): ADMIN,  # of all tenants
    ("POST", "/v1/cache/warm"): CACHE,
    ("DELETE", "/v1/cache/{clip}"): CACHE,
    ("GET", "/v1/keys"): ADMIN,
    ("POST", "/v1/keys"): ADMIN,
    ("GET", "/v1/keys/{key_id}"): ADMIN,
    ("POST", "/v1/keys/{key_id}/rotate"): ADMIN,
    ("DELETE", "/v1/keys/{key_id}"): ADMIN,
}


def door_of(method: str, path: str) -> Door:
    """The door of a route, by the path that it was added with; one not listed is an operator's."""
    return DOORS.get(("GET" if method == "HEAD" else method, path), ADMIN)
