"""What the API's pages say of jobs: bodies and replies, each with an example."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response
from pydantic import BaseModel

from deployments.http.api_pages import (
    BINARY,
    answers,
    body_of,
    refusal,
    refusals,
    schema_of,
    takes,
)
from deployments.http.jobs import shapes
from deployments.http.jobs.body import AgainBody, JobBody

BODIES: tuple[type[BaseModel], ...] = (JobBody, AgainBody, *shapes.SHAPES)
EXAMPLE_ID = "job_0198f2c1a3b47d0e5f6a8b9c0d1e2f3a"
_DIALOGUE = {
    "inputs": [
        {"text": "Did you hear that?", "voice": "aria"},
        {"text": "It was only the wind.", "voice": "bruno", "pause_s": 0.5},
    ],
    "response_format": "mp3",
    "seed": 7,
    "label": "chapter one",
}
_SRT = "1\n00:00:01,000 --> 00:00:03,500\nDid you hear that?\n"
_CSV = 'text,voice,edits\n"Did you hear that?",aria,emotion:fear\nIt was only the wind.,bruno,\n'
_RESULTS = {
    "audio": f"/v1/audio/jobs/{EXAMPLE_ID}/audio",
    "srt": f"/v1/audio/jobs/{EXAMPLE_ID}/subtitles?format=srt",
    "vtt": f"/v1/audio/jobs/{EXAMPLE_ID}/subtitles?format=vtt",
    "manifest": f"/v1/audio/jobs/{EXAMPLE_ID}/manifest",
}
_JOB = {
    "id": EXAMPLE_ID,
    "object": "audio.job",
    "created_at": 1_795_728_000,
    "label": "chapter one",
    "status": "completed",
    "doing": "resting",
    "progress": {
        "segments": 2, "done": 2, "bad": 0, "failed": 0, "over": 0, "share": 1.0, "eta_s": None,
    },
    "response_format": "mp3",
    "characters": 39,
    "seed": 7,
    "model_variant": "base",
    "target_lufs": -19.0,
    "ended_at": 1_795_728_007,
    "expires_at": 1_796_332_807,
    "results": _RESULTS,
}  # fmt: skip
_FACTS = {
    "segment": 0,
    "text": "Did you hear that?",
    "voice": "aria",
    "status": "done",
    "error": None,
    "revision": 0,
    "seed": 4_611_686_018_427_387_904,
    "verdict": "ok",
    "is_retried": False,
    "audio_s": 1.32,
    "begin_s": None,
    "end_s": None,
    "cue": None,
    "stretch": 1.0,
    "is_hurried": False,
    "over_s": 0.0,
    "usage": {"input_tokens": 212, "output_tokens": 55, "total_tokens": 267},
    "digest": "5f3a9c0d1e2f3a4b5c6d7e8f0198f2c15f3a9c0d1e2f3a4b5c6d7e8f0198f2c1",
}
_SEGMENT = {"object": "audio.job.segment", **_FACTS}
_MANIFEST = {
    "object": "audio.job.manifest",
    "job": EXAMPLE_ID,
    "label": "chapter one",
    "file": {
        "response_format": "mp3",
        "media_type": "audio/mpeg",
        "sample_rate": 24_000,
        "audio_s": 3.1,
        "size_bytes": 37_200,
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    },
    "segments": [{**_FACTS, "begin_s": 0.0, "end_s": 1.32}],
}
_TEXT = {"schema": {"type": "string"}}
_GONE = refusal("No job of this id is kept")
_NOT_NOW = refusal(
    "A mistake in a parameter, or the job stands so that this cannot be done: code job_state"
)
_AUDIO = {
    f"audio/{kind}": {"schema": BINARY}
    for kind in ("mpeg", "wav", "ogg", "flac", "aac", "pcm", "pcmu", "pcma")
}
_EVENT = {
    "type": "object",
    "description": "One event; data is JSON text",
    "properties": {
        "event": {"enum": ["audio.job.progress", "audio.job.ended"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": schema_of(shapes.JobReply),
        },
    },
    "required": ["event", "data"],
}


def _of_one(example: Any, shape: type[BaseModel], *refused: int) -> dict[str, Any]:
    """Of a route about one job."""
    doc = answers(example, shape, refused=(400, 503, *refused))
    doc["responses"] |= {404: _GONE, 500: refusal("A document of the job is damaged")}
    return doc


def _changing(doc: dict[str, Any]) -> dict[str, Any]:
    return {**doc, "responses": {**doc["responses"], 400: _NOT_NOW}}


def _bytes(contents: dict[str, Any]) -> dict[str, Any]:
    replies: dict[int | str, Any] = {200: {"description": "As here", "content": contents}}
    replies |= {**refusals(503), 400: _NOT_NOW, 404: _GONE, 500: refusal("A part is damaged")}
    return {"response_class": Response, "responses": replies}


ADD_DOC: dict[str, Any] = {
    **answers(
        {**_JOB, "status": "queued", "results": None, "ended_at": None, "expires_at": None},
        shapes.JobReply,
        refused=(400, 404, 413, 422, 503),
    ),
    **takes(
        {
            "application/json": body_of(JobBody, _DIALOGUE),
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "description": "Text, SRT, VTT or CSV"},
                        "payload": {"type": "string", "description": "Other fields, as JSON"},
                        "voice": {"type": "string"},
                    },
                },
                "example": {"file": _SRT, "voice": "bruno"},
            },
            "text/plain": {**_TEXT, "example": "A long text. It has sentences."},
            "application/x-subrip": {**_TEXT, "example": _SRT},
            "text/vtt": {**_TEXT, "example": "WEBVTT\n\n" + _SRT[2:].replace(",", ".")},
            "text/csv": {**_TEXT, "example": _CSV},
        }
    ),
}
LIST_DOC = answers(
    {
        "object": "list",
        "data": [_JOB],
        "has_more": False,
        "first_id": EXAMPLE_ID,
        "last_id": EXAMPLE_ID,
    },
    shapes.JobList,
    refused=(400, 503),
)
LOOK_DOC = _of_one(_JOB, shapes.JobReply)
CHANGE_DOC = _changing(LOOK_DOC)
DELETE_DOC = _of_one(
    {"id": EXAMPLE_ID, "object": "audio.job.deleted", "deleted": True}, shapes.JobDeleted
)
AGAIN_DOC = {**CHANGE_DOC, **takes({"application/json": body_of(AgainBody, {"seed": 8})})}
AGAIN_DOC["openapi_extra"]["requestBody"]["required"] = False
SEGMENTS_DOC = _of_one(
    {"object": "list", "data": [_SEGMENT], "has_more": False}, shapes.JobSegmentList
)
SEGMENT_DOC = _of_one(_SEGMENT, shapes.JobSegmentReply)
MANIFEST_DOC = _changing(_of_one(_MANIFEST, shapes.JobManifest))
EVENTS_DOC = _bytes({"text/event-stream": {"schema": _EVENT}})
AUDIO_DOC = _bytes(_AUDIO)
SUBTITLES_DOC = _bytes({"application/x-subrip": _TEXT, "text/vtt": _TEXT})
