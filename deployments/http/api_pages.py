"""What the API's own pages (/docs, /openapi.json) say that FastAPI cannot read from the handlers.

Bodies are read from their bytes, so their fields are described here, from the same models.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deployments.http.dialects.elevenlabs import ElevenLabsBody
from deployments.http.dialects.fish import FishBody
from deployments.http.dialects.speech import SpeechBody

SCHEMAS = "#/components/schemas/{model}"
DESCRIPTION = (
    "Voice cloning and editing with Step-Audio-EditX. `/v1/audio/speech` speaks OpenAI's API; "
    "a reference clip travels in `step_audio.prompt_audio_base64` with `step_audio.prompt_text`, "
    "or as a file part of a form. Both speech routes take JSON and forms."
)
_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_ERROR_SHAPE = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": _TEXT,
                "type": {"enum": ["invalid_request_error", "server_error"]},
                "param": _MAYBE_TEXT,
                "code": _TEXT,
            },
        }
    },
}
_EXAMPLE = {
    "input": "Hello there. You only need to hear a voice once to speak with it again.",
    "voice": "bruno",
}
_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "properties": {
        "payload": {"type": "string", "description": "The JSON body"},
        "prompt_audio_file": {**_FILE, "description": "The reference clip"},
        "input_audio_file": {**_FILE, "description": "Another name for the clip, for edits"},
    },
}


def refusal(description: str) -> dict[str, Any]:
    """The documented reply of an error."""
    return {"description": description, "content": {"application/json": {"schema": _ERROR_SHAPE}}}


ERROR_DOC: dict[int | str, dict[str, Any]] = {"default": refusal("What went wrong")}
_AUDIO = {
    "audio/mpeg": {}, "audio/wav": {}, "audio/ogg": {}, "audio/flac": {}, "audio/aac": {},
    "audio/pcm": {}, "audio/pcmu": {}, "audio/pcma": {},
}  # fmt: skip


def _spoken(contents: dict[str, Any], replies: dict[str, Any]) -> dict[str, Any]:
    """What FastAPI is told of a route that speaks. contents: of its body, by media type."""
    return {
        "response_class": Response,
        "responses": {
            200: {"description": "Audio, sent in chunks as it is made", "content": replies},
            400: refusal("A mistake in the body or one of its fields"),
            404: refusal("No voice has this name"),
            413: refusal("The body is too large"),
            415: refusal("The clip cannot be decoded"),
            422: refusal("The clip or the text cannot be used"),
            503: refusal("The service is full; retry later"),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": contents}},
    }


def _body(model: type[BaseModel], shown: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"$ref": SCHEMAS.format(model=model.__name__)}, "example": shown}


def example(shown: Any) -> dict[int | str, dict[str, Any]]:
    """The documented reply of a route whose shape is best seen."""
    content = {"application/json": {"example": shown}}
    return {200: {"description": "For example", "content": content}}


SPEECH_DOC = _spoken(
    {
        "application/json": _body(SpeechBody, _EXAMPLE),
        "multipart/form-data": {"schema": _FORM},
    },
    {**_AUDIO, "text/event-stream": {}},
)
_FISH_EXAMPLE = {"text": _EXAMPLE["input"], "reference_id": "bruno", "format": "wav"}
FISH_DOC = _spoken(
    {
        "application/json": _body(FishBody, _FISH_EXAMPLE),
        "application/msgpack": {"schema": {"$ref": SCHEMAS.format(model="FishBody")}},
        "multipart/form-data": {"schema": {"$ref": SCHEMAS.format(model="FishBody")}},
    },
    _AUDIO,
)
_ELEVENLABS_EXAMPLE = {"text": _EXAMPLE["input"], "model_id": "eleven_multilingual_v2"}
ELEVENLABS_DOC = _spoken({"application/json": _body(ElevenLabsBody, _ELEVENLABS_EXAMPLE)}, _AUDIO)
OUTCOME_DOC: dict[str, Any] = {
    "responses": {
        404: refusal("No request of this id is remembered"),
        503: refusal("The list of requests does not answer; retry later"),
        **example(
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
            }
        ),
    }
}


def describe_bodies(app: FastAPI, others: Sequence[type[BaseModel]] = ()) -> None:
    """Let the API's description have the schemas that its request bodies refer to.

    others: beside the bodies that speak.
    """
    app.openapi = partial(_described, app, (SpeechBody, FishBody, ElevenLabsBody, *others))


def _described(app: FastAPI, models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    if app.openapi_schema is None:
        page = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _, bodies = models_json_schema(
            [(model, "validation") for model in models], ref_template=SCHEMAS
        )
        page.setdefault("components", {}).setdefault("schemas", {}).update(bodies["$defs"])
        app.openapi_schema = page
    return app.openapi_schema
