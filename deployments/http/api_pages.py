"""What the API's own pages (/docs, /openapi.json) say that FastAPI cannot read from the handlers.

Bodies are read from their bytes, so their fields are described here, from the same models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from deployments.http.dialects.dialogue import ElevenLabsDialogue
from deployments.http.dialects.elevenlabs import ElevenLabsBody
from deployments.http.dialects.fish import FishBody
from deployments.http.dialects.speech import SpeechBody
from deployments.http.edit_shapes import Tags
from deployments.http.pages import (
    pronunciation_shapes,
    readiness_shapes,
    savings_shapes,
    shapes,
)
from deployments.http.pages.parts import OF_SPEECH, complete, header_references
from deployments.http.pages.shapes import (
    ErrorReply,
    SpeechDelta,
    SpeechDone,
    SpeechFailed,
    SpeechOutcome,
)

SCHEMAS = "#/components/schemas/{model}"
DESCRIPTION = (
    "Voice cloning and editing with Step-Audio-EditX. `/v1/audio/speech` speaks OpenAI's API; "
    "a reference clip travels in `step_audio.prompt_audio_base64` with `step_audio.prompt_text`, "
    "or as a file part of a form. Both speech routes take JSON and forms."
)
MEANINGS = {
    400: "A mistake in the body, in one of its fields, or in a parameter",
    404: "No voice has this name",
    413: "The body or the clip is too large",
    415: "The clip cannot be decoded",
    422: "The clip or the text cannot be used",
    429: "The service is full and this caller has its share of it, or its quota is used; retry "
    "later",
    503: "The service is full, or a part of it does not answer; retry later",
    504: "A part of the service did not answer in time; retrying may help",
}
UNUSABLE = (400, 404, 413, 415, 422, 503, 504)
_UNSPEAKABLE = (*UNUSABLE, 429)
_EXAMPLE = {
    "input": "Hello there. You only need to hear a voice once to speak with it again.",
    "voice": "bruno",
}
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
BASE64: dict[str, Any] = {
    "type": "string",
    "format": "byte",
    "description": "base64, or a data: URI of it",
}


def schema_of(*shapes: type[BaseModel]) -> dict[str, Any]:
    """A reply or body that has one of these shapes."""
    references = [{"$ref": SCHEMAS.format(model=shape.__name__)} for shape in shapes]
    return references[0] if len(references) == 1 else {"anyOf": references}


def refusal(description: str) -> dict[str, Any]:
    """The documented reply of an error."""
    content = {"application/json": {"schema": schema_of(ErrorReply)}}
    return {"description": description, "content": content}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented errors of a route, as they usually come about."""
    return {status: refusal(MEANINGS[status]) for status in statuses}


def answers(example: Any, *shapes: type[BaseModel], refused: Sequence[int] = ()) -> dict[str, Any]:
    """What FastAPI is told of a route that answers with JSON of one of these shapes.

    refused: its statuses of errors; those of every route are there anyway.
    """
    content = {"application/json": {"schema": schema_of(*shapes), "example": example}}
    done: dict[int | str, Any] = {200: {"description": "As here", "content": content}}
    return {"response_model": None, "responses": done | refusals(*refused)}


def takes(contents: dict[str, Any]) -> dict[str, Any]:
    """What FastAPI is told of a body. contents: by media type."""
    return {"openapi_extra": {"requestBody": {"required": True, "content": contents}}}


def body_of(model: type[BaseModel], example: Any) -> dict[str, Any]:
    """The content of a body."""
    return {"schema": schema_of(model), "example": example}


ERROR_DOC: dict[int | str, dict[str, Any]] = {"default": refusal("What went wrong")}
_SOUNDS = ("mpeg", "wav", "ogg", "flac", "aac", "pcm", "pcmu", "pcma")
_AUDIO = {f"audio/{sound}": {"schema": BINARY} for sound in _SOUNDS}


def _spoken(contents: dict[str, Any], replies: dict[str, Any]) -> dict[str, Any]:
    """What FastAPI is told of a route that speaks. contents: of its body, by media type."""
    spoken = {"description": "Audio, sent in chunks as it is made", "content": replies}
    spoken["headers"] = header_references(*OF_SPEECH)
    return {
        "response_class": Response,
        "responses": {200: spoken, **refusals(*_UNSPEAKABLE)},
        **takes(contents),
    }


_FORM = {
    "allOf": [
        schema_of(SpeechBody),
        {
            "type": "object",
            "properties": {
                "payload": {"type": "string", "description": "All fields, as JSON text"},
                "prompt_audio_file": {**BINARY, "description": "The reference clip"},
                "input_audio_file": {**BINARY, "description": "Another name for it, for edits"},
            },
        },
    ]
}
_EVENT = {
    "type": "object",
    "description": "One event; data is JSON text",
    "properties": {
        "event": {"enum": ["speech.audio.delta", "speech.audio.done", "speech.audio.error"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": schema_of(SpeechDelta, SpeechDone, SpeechFailed),
        },
    },
    "required": ["event", "data"],
}
SPEECH_DOC = _spoken(
    {
        "application/json": body_of(SpeechBody, _EXAMPLE),
        "multipart/form-data": {"schema": _FORM, "example": {"payload": json.dumps(_EXAMPLE)}},
    },
    {**_AUDIO, "text/event-stream": {"schema": _EVENT}},
)
_FISH_EXAMPLE = {"text": _EXAMPLE["input"], "reference_id": "bruno", "format": "wav"}
_FISH = body_of(FishBody, _FISH_EXAMPLE)
FISH_DOC = _spoken(
    dict.fromkeys(("application/json", "application/msgpack", "multipart/form-data"), _FISH), _AUDIO
)
_ELEVENLABS_EXAMPLE = {"text": _EXAMPLE["input"], "model_id": "eleven_multilingual_v2"}
ELEVENLABS_DOC = _spoken({"application/json": body_of(ElevenLabsBody, _ELEVENLABS_EXAMPLE)}, _AUDIO)
_DIALOGUE = {
    "inputs": [
        {"text": "Did you hear that?", "voice_id": "aria"},
        {"text": "It was only the wind.", "voice_id": "bruno"},
    ]
}
DIALOGUE_DOC = _spoken({"application/json": body_of(ElevenLabsDialogue, _DIALOGUE)}, _AUDIO)
OUTCOME_DOC = answers(
    {
        "object": "audio.speech",
        "request_id": "caller-4711",
        "outcome": "ok",
        "finish_reason": "stop",
        "error": None,
        "quality": {"verdict": "ok", "is_retried": False},
        "usage": {"input_tokens": 412, "output_tokens": 165, "total_tokens": 577},
        "timbre": {"tier": "l1", "ttfa_s": 0.24, "total_s": 0.6, "audio_s": 3.96},
        "response_format": "pcm",
        "sample_rate": 24000,
        "created_at": 1795728000,
    },
    SpeechOutcome,
    refused=(503,),
)
OUTCOME_DOC["responses"][404] = refusal("No request of this id is remembered")
TAGS_DOC = answers(
    {
        "emotion": ["happy", "angry"],
        "style": ["serious", "whisper"],
        "speed": ["faster", "slower"],
        "paralinguistic": ["[Laughter]", "[Sigh]"],
        "dialect": ["[Sichuanese]"],
        "modes": ["clone", "emotion", "style", "speed", "denoise", "vad", "paralinguistic"],
        "types": [
            {
                "type": "emotion",
                "values": ["happy", "angry"],
                "intensity": {"min": 1, "max": 4},
                "needs_text": False,
                "needs_transcript": True,
                "only_first": False,
            }
        ],
        "languages": [{"name": "English", "tag": None}],
        "max_steps": 8,
    },
    Tags,
)
REPLIES: tuple[type[BaseModel], ...] = tuple(
    shape
    for room in (shapes, readiness_shapes, pronunciation_shapes, savings_shapes)
    for shape in vars(room).values()
    if isinstance(shape, type) and issubclass(shape, BaseModel) and shape is not BaseModel
)


def describe_bodies(app: FastAPI, others: Sequence[type[BaseModel]] = ()) -> None:
    """Let the API's description have the schemas that its bodies and replies refer to.

    others: beside the bodies that speak, and the replies.
    """
    app.openapi = partial(
        _described, app, (SpeechBody, FishBody, ElevenLabsBody, ElevenLabsDialogue, *others)
    )


def _described(app: FastAPI, bodies: Sequence[type[BaseModel]]) -> dict[str, Any]:
    if app.openapi_schema is None:
        page = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
            *((body, "validation") for body in bodies),
            *((reply, "serialization") for reply in REPLIES),
        ]
        _, found = models_json_schema(models, ref_template=SCHEMAS)
        page.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
        complete(page, app.routes, refusal)
        app.openapi_schema = page
    return app.openapi_schema
