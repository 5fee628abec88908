"""What the API's pages say of edits: bodies and replies, each with an example."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from deployments.edits.documents import STEP_PATH
from deployments.http.api_pages import SCHEMAS, SPEECH_DOC, refusal
from deployments.http.dialects.edits import EditsBody
from deployments.http.edit_shapes import SHAPES, DeletedEdit, EditList, EditReply, EditStepReply

BODIES: tuple[type[BaseModel], ...] = (EditsBody, *SHAPES)

EXAMPLE_ID = "edit_5f3a9c0d1e2f3a4b5c6d7e8f0198f2c1a3b47d0e5f6a8b9c0d1e2f3a"
_CHAIN: dict[str, Any] = {
    "voice": "bruno",
    "steps": [
        {"type": "clone", "text": "So you forgot. Never mind."},
        {"type": "emotion", "value": "happy"},
        {"type": "paralinguistic", "text": "So you forgot. [Laughter] Never mind."},
        {"type": "denoise"},
    ],
    "seed": 7,
}
_FORM = {"voice": "bruno", "type": "emotion", "value": "happy", "intensity": 2}
_STEP = {
    "step": 1,
    "type": "clone",
    "value": "",
    "text": "So you forgot. Never mind.",
    "intensity": 1,
    "seed": 7,
    "model_variant": "base",
    "audio": STEP_PATH.format(edit=EXAMPLE_ID, number=1) + "/audio",
}
_EDIT = {
    "id": EXAMPLE_ID,
    "object": "audio.edit",
    "created_at": 1_795_728_000,
    "voice": "bruno",
    "sources": [{"clip": "8f…", "transcript": "Please leave the keys on the kitchen table, …"}],
    "steps": [_STEP],
}
_GONE = refusal("No edit of this id is kept, or what it was made of is gone")
_NO_ANSWER = refusal("The store does not answer")
_FAILED = {500: refusal("A stage failed"), 503: refusal("The service is full; retry later")}
_FILE = {"type": "string", "format": "binary", "description": "The audio to edit"}
_PAYLOAD = {"type": "string", "description": "The JSON body, in place of its fields"}
_BODY = {"$ref": SCHEMAS.format(model=EditsBody.__name__)}
_CLIP = {"audio": {"type": "string", "description": "The audio to edit: base64 or a data: URI"}}
_REPLIES: dict[int, Any] = SPEECH_DOC["responses"]


def _shown(shape: type[BaseModel], example: Any) -> dict[str, Any]:
    schema = {"$ref": SCHEMAS.format(model=shape.__name__)}
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": "As here", "content": content}


EDIT_DOC: dict[str, Any] = {
    **SPEECH_DOC,
    "responses": {**_REPLIES, **_FAILED, 404: refusal("No voice, or no edit, is named so")},
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"allOf": [_BODY, {"type": "object", "properties": _CLIP}]},
                    "example": _CHAIN,
                },
                "multipart/form-data": {
                    "schema": {
                        "allOf": [
                            _BODY,
                            {"type": "object", "properties": {"audio": _FILE, "payload": _PAYLOAD}},
                        ]
                    },
                    "example": _FORM,
                },
            },
        }
    },
}
LOOK_DOC: dict[str, Any] = {
    "responses": {
        200: _shown(EditReply, _EDIT),
        404: _GONE,
        503: _NO_ANSWER,
    }
}
LIST_DOC: dict[str, Any] = {
    "responses": {
        200: _shown(
            EditList,
            {
                "object": "list",
                "data": [_EDIT],
                "has_more": False,
                "first_id": EXAMPLE_ID,
                "last_id": EXAMPLE_ID,
            },
        ),
        400: refusal("A mistake in a parameter, or no edits are kept here"),
        503: _NO_ANSWER,
    }
}
DELETE_DOC: dict[str, Any] = {
    "responses": {
        200: _shown(DeletedEdit, {"id": EXAMPLE_ID, "object": "audio.edit", "deleted": True}),
        404: _GONE,
        503: _NO_ANSWER,
    }
}
STEP_DOC: dict[str, Any] = {
    "responses": {
        200: _shown(
            EditStepReply,
            {
                **_STEP,
                "object": "audio.edit.step",
                "edit": EXAMPLE_ID,
                "tokens": [874, 664, 3677, 2471, 3470],
                "audio_s": 0.12,
                "quality": "ok",
                "usage": {"input_tokens": 812, "output_tokens": 10, "total_tokens": 822},
                "answered_by": ["speech-l1"],
            },
        ),
        400: refusal("The edit has no such step"),
        404: _GONE,
        **_FAILED,
    }
}
AUDIO_DOC: dict[str, Any] = {
    "response_class": SPEECH_DOC["response_class"],
    "responses": {
        200: _REPLIES[200],
        400: refusal("A mistake in a parameter, or no such step"),
        404: _GONE,
        **_FAILED,
    },
}
