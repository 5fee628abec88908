"""What the API's pages say of voices and consents: bodies and replies, each with an example."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from deployments.http.api_pages import SCHEMAS, refusal
from deployments.http.dialects.voices import NO_TRANSCRIPT, ConsentBody, ConsentLabel, VoiceBody

BODIES: tuple[type[BaseModel], ...] = (VoiceBody, ConsentBody, ConsentLabel)

_VOICE_ID = "voice_0198f2c1a3b47d0e5f6a8b9c0d1e2f3a"
_CONSENT_ID = "cons_0198f2c19f214b6d8e0f1a2b3c4d5e6f"
_SAID = "Please leave the keys on the kitchen table, and close the garden gate behind you."
_FILE = {"type": "string", "format": "binary"}
_QUALITY = {
    "duration_s": 5.134,
    "sample_rate_hz": 22_050,
    "speech_share": 0.83,
    "snr_db": 15.9,
    "clipped_share": 0.0,
    "loudness_lufs": -20.9,
    "peak_dbfs": -1.9,
    "several_speakers": False,
    "suggested_trim": None,
    "findings": [NO_TRANSCRIPT],
}
_FACTS = {"version": 1, "language": "en", "consent": _CONSENT_ID, "quality": _QUALITY}
_VOICE = {
    "id": _VOICE_ID,
    "object": "audio.voice",
    "created_at": 1_795_728_000,
    "name": "Zoe",
    "type": "audio_sample",
    **_FACTS,
    "speaker_description": None,
    "ref_text": None,
}
_OMNI_VOICE = {
    "name": "Zoe",
    "created_at": 1_795_728_000,
    "file_size": 226_460,
    "mime_type": "audio/wav",
    "embedding_source": "audio",
    "embedding_dim": 192,
    "id": _VOICE_ID,
    **_FACTS,
}
_CONSENT = {
    "id": _CONSENT_ID,
    "object": "audio.voice_consent",
    "created_at": 1_795_727_000,
    "language": "en-US",
    "name": "Zoe, studio",
    "who": "Zoe Example",
    "given_at": 1_795_727_000,
    "text": "I, Zoe Example, agree that my voice is cloned for the museum's audio guide.",
    "has_recording": False,
}
_LISTED = {"id": _VOICE_ID, "name": "Zoe", "language": "en", "object": "voice"}
_BUILT_IN = {"id": "bruno", "name": "bruno", "language": "en", "object": "voice"}

_UNUSABLE = {
    400: refusal("A mistake in a field, no consent, a name that is taken, or no voices kept here"),
    413: refusal("The clip is too large"),
    415: refusal("The clip cannot be decoded"),
    422: refusal("The clip or its transcript cannot be used"),
    503: refusal("The clip could not be encoded or stored; retry later"),
}
_NO_VOICE = {400: refusal("No voices are kept here"), 404: refusal("No voice has this name or id")}
_NO_CONSENT = {
    400: refusal("A mistake in a field, or no consents kept here"),
    404: refusal("No consent has this id"),
}


def _answers(example: Any, refusals: dict[int, Any]) -> dict[str, Any]:
    shown = {"description": "As here", "content": {"application/json": {"example": example}}}
    return {"responses": {200: shown, 503: refusal("The store does not answer"), **refusals}}


def _takes(model: type[BaseModel], example: dict[str, Any], *files: str) -> dict[str, Any]:
    """A body of these fields: JSON with clips in base64, or a form with them as files."""
    fields = {"$ref": SCHEMAS.format(model=model.__name__)}
    contents: dict[str, Any] = {}
    for media_type, clip in (
        ("multipart/form-data", _FILE),
        ("application/json", {"type": "string", "description": "base64 or a data: URI"}),
    ):
        clips = {"type": "object", "properties": dict.fromkeys(files, clip)}
        contents[media_type] = {"schema": {"allOf": [fields, clips]} if files else fields}
    contents["application/json"]["example"] = example
    return {"openapi_extra": {"requestBody": {"content": contents}}}


LIST_DOC = _answers(
    {
        "object": "list",
        "voices": [_BUILT_IN, _LISTED],
        "uploaded_voices": [_OMNI_VOICE],
        "data": [_BUILT_IN, _LISTED],
    },
    {400: refusal("A mistake in a parameter")},
)
UPLOAD_DOC = _answers({"success": True, "voice": _OMNI_VOICE}, _UNUSABLE) | _takes(
    VoiceBody,
    {"name": "Zoe", "consent": _CONSENT_ID, "audio_sample": "UklGRi…", "ref_text": _SAID},
    "audio_sample",
)
LOOK_DOC = _answers(_VOICE, _NO_VOICE)
CHANGE_DOC = _answers(_VOICE, _UNUSABLE | {404: _NO_VOICE[404]}) | _takes(
    VoiceBody, {"name": "Zoe, calm", "ref_text": _SAID}, "audio_sample"
)
DELETE_DOC = _answers(
    {"id": _VOICE_ID, "object": "audio.voice.deleted", "deleted": True}, _NO_VOICE
)
RESTORE_DOC = _answers(
    _VOICE, {400: refusal("Its name has gone to another voice: send name"), 404: _NO_VOICE[404]}
) | _takes(VoiceBody, {"name": "Zoe"})

CONSENT_LIST_DOC = _answers(
    {
        "object": "list",
        "data": [_CONSENT],
        "has_more": False,
        "first_id": _CONSENT_ID,
        "last_id": _CONSENT_ID,
    },
    {400: refusal("A mistake in a parameter, or no consents kept here")},
)
CONSENT_DOC = _answers(_CONSENT, _UNUSABLE) | _takes(
    ConsentBody,
    {
        "name": _CONSENT["name"],
        "language": _CONSENT["language"],
        "who": _CONSENT["who"],
        "text": _CONSENT["text"],
    },
    "recording",
)
CONSENT_LOOK_DOC = _answers(_CONSENT, _NO_CONSENT)
CONSENT_LABEL_DOC = _answers(_CONSENT, _NO_CONSENT) | _takes(ConsentLabel, {"name": "Zoe, 2026"})
CONSENT_DELETE_DOC = _answers(
    {"id": _CONSENT_ID, "object": "audio.voice_consent", "deleted": True}, _NO_CONSENT
)
