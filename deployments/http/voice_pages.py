"""What the API's pages say of voices and consents: bodies and replies, each with an example."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from deployments.http.api_pages import BASE64, BINARY, answers, refusal, refusals, schema_of, takes
from deployments.http.dialects.elevenlabs_voices import ElevenLabsVoice
from deployments.http.dialects.voices import NO_TRANSCRIPT, ConsentBody, ConsentLabel, VoiceBody
from deployments.http.pages import shapes

BODIES: tuple[type[BaseModel], ...] = (VoiceBody, ElevenLabsVoice, ConsentBody, ConsentLabel)

_VOICE_ID = "voice_0198f2c1a3b47d0e5f6a8b9c0d1e2f3a"
_CONSENT_ID = "cons_0198f2c19f214b6d8e0f1a2b3c4d5e6f"
_SAID = "Please leave the keys on the kitchen table, and close the garden gate behind you."
_AGREED = "I, Zoe Example, agree that my voice is cloned for the museum's audio guide."
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
_FACTS = {
    "version": 1,
    "language": "en",
    "consent": _CONSENT_ID,
    "transcript_source": None,
    "quality": _QUALITY,
}
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
_VERSION = {
    "created_at": 1_795_728_000,
    "file_size": 226_460,
    "mime_type": "audio/wav",
    "ref_text": None,
    **_FACTS,
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
    "text": _AGREED,
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


def _answers(
    example: Any,
    refused: Refusals,
    *may_be: type[BaseModel],
    links: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A route of these. may_be: the shapes of its reply. links: to what its reply's id is for."""
    doc = answers(example, *may_be)
    doc["responses"] |= refused
    if links is not None:
        doc["responses"][200]["links"] = links
    return doc


def _links(parameter: str, where: str, *operations: str) -> dict[str, Any]:
    """To operations, by their ids. where: the reply has the value of their parameter."""
    given = {parameter: f"$response.body#/{where}"}
    return {
        f"{operation.partition('_')[0]}_by_{where.replace('/', '_')}": {
            "operationId": operation,
            "parameters": given,
        }
        for operation in operations
    }


def _takes(
    model: type[BaseModel], example: dict[str, Any], *files: str, needs: Sequence[str] = ()
) -> dict[str, Any]:
    """A body of these fields: JSON with clips in base64, or a form with them as files.

    needs: what may not be left out.
    """
    texts = {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in example.items()
    }
    contents = {
        "multipart/form-data": {
            "schema": _fields(model, dict.fromkeys(files, BINARY), needs),
            "example": texts | {name: "RIFF…" for name in files if name in example},
        },
        "application/json": {
            "schema": _fields(model, dict.fromkeys(files, BASE64), needs),
            "example": example,
        },
    }
    return takes(contents)


def _fields(
    model: type[BaseModel], clips: Mapping[str, Any], needs: Sequence[str]
) -> dict[str, Any]:
    if not clips:
        return schema_of(model)
    also = {"type": "object", "properties": clips, **({"required": list(needs)} if needs else {})}
    return {"allOf": [schema_of(model), also]}


_OF_VOICE = (
    "look_v1_audio_voices__voice__get",
    "change_v1_audio_voices__voice__post",
    "delete_v1_audio_voices__voice__delete",
)
_OF_CONSENT = (
    "look_v1_audio_voice_consents__consent_id__get",
    "label_v1_audio_voice_consents__consent_id__post",
    "delete_v1_audio_voice_consents__consent_id__delete",
)
_OF_CLONE = (
    "voice_v1_voices__voice_id__get",
    "edit_v1_voices__voice_id__edit_post",
    "delete_v1_voices__voice_id__delete",
)
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
    {"success": True, "voice": _OMNI_VOICE},
    _UNUSABLE,
    shapes.OmniUpload,
    shapes.UploadedVoice,
    links=_links("voice", "voice/id", *_OF_VOICE) | _links("voice", "id", *_OF_VOICE),
) | _takes(
    VoiceBody,
    {"name": "Zoe", "consent": _AGREED, "audio_sample": "UklGRi…", "ref_text": _SAID},
    "audio_sample",
    needs=("name", "audio_sample"),
)
LOOK_DOC = _answers(
    {**_VOICE, "versions": [_VERSION]}, _NO_VOICE, shapes.VersionedVoice, shapes.NamedVoice
)
CHANGE_DOC = _answers(_VOICE, _NO_VOICE | _UNUSABLE, shapes.UploadedVoice) | _takes(
    VoiceBody, {"name": "Zoe, calm", "ref_text": _SAID}, "audio_sample"
)
DELETE_DOC = _answers(
    {"id": _VOICE_ID, "object": "audio.voice.deleted", "deleted": True},
    _NO_VOICE,
    shapes.DeletedVoice,
    shapes.OmniDeletion,
    links=_links("voice", "id", "restore_v1_audio_voices__voice__restore_post"),
)
RESTORE_DOC = _answers(
    _VOICE,
    _UNUSABLE
    | {400: refusal("Its name has gone to another voice: send name"), 404: _NO_VOICE[404]},
    shapes.UploadedVoice,
) | _takes(VoiceBody, {"name": "Zoe"})
RESTORE_DOC["openapi_extra"]["requestBody"]["required"] = False

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
CONSENT_DOC = _answers(
    _CONSENT, _UNUSABLE, shapes.ConsentReply, links=_links("consent_id", "id", *_OF_CONSENT)
) | _takes(
    ConsentBody,
    {
        "name": _CONSENT["name"],
        "language": _CONSENT["language"],
        "who": _CONSENT["who"],
        "text": _CONSENT["text"],
    },
    "recording",
    needs=("name", "language"),
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

_LABELS = {"consent": _AGREED, "ref_text": _SAID, "language": "en"}
ADD_DOC = _answers(
    {"voice_id": _VOICE_ID, "requires_verification": False},
    _UNUSABLE,
    shapes.ElevenLabsUpload,
    links=_links("voice_id", "voice_id", *_OF_CLONE),
) | _takes(
    ElevenLabsVoice,
    {"name": "Yan", "files": "UklGRi…", "labels": _LABELS},
    "files",
    needs=("name", "files"),
)
EDIT_DOC = _answers({"status": "ok"}, _NO_VOICE | _UNUSABLE, shapes.Done) | _takes(
    ElevenLabsVoice, {"name": "Yan, calm"}, "files"
)
DELETE_CLONE_DOC = _answers({"status": "ok"}, _NO_VOICE, shapes.Done)
