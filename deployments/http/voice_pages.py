"""What the API's pages say of voices and consents: bodies and replies, each with an example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from deployments.http import reply_shapes as shapes
from deployments.http.api_pages import BASE64, BINARY, answers, refusal, refusals, schema_of, takes
from deployments.http.dialects.elevenlabs_voices import ElevenLabsVoice
from deployments.http.dialects.voices import NO_TRANSCRIPT, ConsentBody, ConsentLabel, VoiceBody

BODIES: tuple[type[BaseModel], ...] = (VoiceBody, ElevenLabsVoice, ConsentBody, ConsentLabel)

_VOICE_ID = "voice_0198f2c1a3b47d0e5f6a8b9c0d1e2f3a"
_CONSENT_ID = "cons_0198f2c19f214b6d8e0f1a2b3c4d5e6f"
_SAID = "Please leave the keys on the kitchen table, and close the garden gate behind you."
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

_UNUSABLE = refusals(413, 415, 422, 503, 504) | {
    400: refusal("A mistake in a field, no consent, a name that is taken, or no voices kept here"),
}
_NO_VOICE = refusals(503) | {
    400: refusal("No voices are kept here, or this one cannot be changed"),
    404: refusal("No voice has this name or id"),
}
_NO_CONSENT = refusals(503) | {
    400: refusal("A mistake in a field, or no consents kept here"),
    404: refusal("No consent has this id"),
}
Refusals = Mapping[int | str, dict[str, Any]]


def _answers(example: Any, refused: Refusals, *may_be: type[BaseModel]) -> dict[str, Any]:
    """A route of these. may_be: the shapes of its reply."""
    doc = answers(example, *may_be)
    doc["responses"] |= refused
    return doc


def _takes(
    model: type[BaseModel], example: dict[str, Any], *files: str, is_required: bool = True
) -> dict[str, Any]:
    """A body of these fields: JSON with clips in base64, or a form with them as files."""
    as_text = {"type": "object", "properties": dict.fromkeys(files, BASE64)}
    as_file = {"type": "object", "properties": dict.fromkeys(files, BINARY)}
    parts = {name: value for name, value in example.items() if name not in files}
    texts = {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in parts.items()
    }
    fields = schema_of(model)
    contents = {
        "multipart/form-data": {
            "schema": {"allOf": [fields, as_file]} if files else fields,
            "example": texts,
        },
        "application/json": {
            "schema": {"allOf": [fields, as_text]} if files else fields,
            "example": example,
        },
    }
    return takes(contents, is_required=is_required)


LIST_DOC = _answers(
    {
        "object": "list",
        "voices": [_BUILT_IN, _LISTED],
        "uploaded_voices": [_OMNI_VOICE],
        "data": [_BUILT_IN, _LISTED],
    },
    {400: refusal("A mistake in a parameter")} | refusals(503),
    shapes.AudioVoiceList,
    shapes.DeletedVoices,
)
UPLOAD_DOC = _answers(
    {"success": True, "voice": _OMNI_VOICE}, _UNUSABLE, shapes.OmniUpload, shapes.UploadedVoice
) | _takes(
    VoiceBody,
    {"name": "Zoe", "consent": _CONSENT_ID, "audio_sample": "UklGRi…", "ref_text": _SAID},
    "audio_sample",
)
LOOK_DOC = _answers(_VOICE, _NO_VOICE, shapes.VersionedVoice, shapes.NamedVoice)
CHANGE_DOC = _answers(_VOICE, _NO_VOICE | _UNUSABLE, shapes.UploadedVoice) | _takes(
    VoiceBody, {"name": "Zoe, calm", "ref_text": _SAID}, "audio_sample"
)
DELETE_DOC = _answers(
    {"id": _VOICE_ID, "object": "audio.voice.deleted", "deleted": True},
    _NO_VOICE,
    shapes.DeletedVoice,
    shapes.OmniDeletion,
)
RESTORE_DOC = _answers(
    _VOICE,
    _UNUSABLE
    | {400: refusal("Its name has gone to another voice: send name"), 404: _NO_VOICE[404]},
    shapes.UploadedVoice,
) | _takes(VoiceBody, {"name": "Zoe"}, is_required=False)

CONSENT_LIST_DOC = _answers(
    {
        "object": "list",
        "data": [_CONSENT],
        "has_more": False,
        "first_id": _CONSENT_ID,
        "last_id": _CONSENT_ID,
    },
    {400: refusal("A mistake in a parameter, or no consents kept here")} | refusals(503),
    shapes.ConsentPage,
)
CONSENT_DOC = _answers(_CONSENT, _UNUSABLE, shapes.ConsentReply) | _takes(
    ConsentBody,
    {
        "name": _CONSENT["name"],
        "language": _CONSENT["language"],
        "who": _CONSENT["who"],
        "text": _CONSENT["text"],
    },
    "recording",
)
CONSENT_LOOK_DOC = _answers(_CONSENT, _NO_CONSENT, shapes.ConsentReply)
CONSENT_LABEL_DOC = _answers(_CONSENT, _NO_CONSENT, shapes.ConsentReply) | _takes(
    ConsentLabel, {"name": "Zoe, 2026"}
)
CONSENT_DELETE_DOC = _answers(
    {"id": _CONSENT_ID, "object": "audio.voice_consent", "deleted": True},
    _NO_CONSENT,
    shapes.DeletedConsent,
)

_LABELS = {"consent": _CONSENT_ID, "ref_text": _SAID, "language": "en"}
ADD_DOC = _answers(
    {"voice_id": _VOICE_ID, "requires_verification": False}, _UNUSABLE, shapes.ElevenLabsUpload
) | _takes(ElevenLabsVoice, {"name": "Zoe", "files": "UklGRi…", "labels": _LABELS}, "files")
EDIT_DOC = _answers({"status": "ok"}, _NO_VOICE | _UNUSABLE, shapes.Done) | _takes(
    ElevenLabsVoice, {"name": "Zoe, calm"}, "files"
)
DELETE_CLONE_DOC = _answers({"status": "ok"}, _NO_VOICE, shapes.Done)
