"""The cache over HTTP: its state, encoding ahead, removing a voice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Request
from pydantic import ConfigDict, Field

from deployments.http.api_pages import (
    BASE64,
    BINARY,
    UNUSABLE,
    answers,
    body_of,
    takes,
)
from deployments.http.bodies.budget import BodyBudget
from deployments.http.bodies.clip_text import clip_bytes
from deployments.http.bodies.fields import NAME, Lenient, validated
from deployments.http.bodies.forms import is_multipart, read_multipart
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import RawBody, is_json, only_clip, read_off_loop, receive_body
from deployments.http.errors import about_clip
from deployments.http.pages.shapes import CacheState, Forgotten, Warmed
from deployments.http.tenant import namespace_of
from deployments.speech.library import SpeechLibrary
from deployments.voices.resolver import VoiceLibrary
from pipeline.errors import InputError

CLIP_DIGITS = 64
_DIGEST = "5f1d" * 16
ClipDigest = Annotated[
    str, Path(description="What warming the clip was answered with", examples=[_DIGEST])
]


class WarmBody(Lenient):
    """`POST /v1/cache/warm` as JSON."""

    model_config = ConfigDict(extra="forbid")
    keeps_empty = frozenset({"audio"})

    audio: str = Field(json_schema_extra=BASE64)
    durability: Annotated[Literal["writethrough", "writeback"], NAME] = "writethrough"


@dataclass(frozen=True, slots=True, eq=False)
class WarmRequest:
    """A clip to encode ahead."""

    upload: bytes
    """The clip's bytes."""
    is_durable: bool
    """Answer only after a durable tier holds the record."""
    param: str
    """The field that the clip came in."""


def add_cache_routes(
    app: FastAPI,
    voices: VoiceLibrary,
    speech: SpeechLibrary,
    budget: BodyBudget,
    forget_everywhere: Callable[[str, str], Awaitable[None]],
) -> None:
    """GET and DELETE /v1/cache, POST /v1/cache/warm.

    budget: of the request bodies. forget_everywhere: removes a namespace's clip from every router's
    memory and the tiers below.
    """

    @app.get("/v1/cache", **_STATE_DOC)
    async def cache_state() -> dict[str, Any]:
        """Counters of this router's cache and of the cluster's index, and its unhealthy tiers.

        `speech`: the same of finished speech.
        """
        return {**await voices.cache_report(), "speech": await speech.report()}

    @app.post("/v1/cache/warm", **_WARM_DOC)
    async def warm(request: Request) -> dict[str, Any]:
        """Encode a clip ahead of its first use.

        Its bytes as the body, a form with it as a file part, or JSON with `audio` in base64.
        Answers after a durable tier holds the record, unless `durability` is writeback.
        """
        with budget.hold() as hold:
            parsed = await read_off_loop(_parse_warm, await receive_body(request, hold))
            with about_clip(parsed.param):
                namespace = namespace_of(request, voices.namespace)
                return await voices.warm(
                    parsed.upload, is_durable=parsed.is_durable, namespace=namespace
                )

    @app.delete("/v1/cache/{clip}", **_FORGET_DOC)
    async def forget(request: Request, clip: ClipDigest) -> dict[str, Any]:
        """Remove a clip's record and all speech in its voice from every tier.

        By the `clip` that warming it answered with.
        """
        clip_digest = clip.strip().lower()
        if len(clip_digest) != CLIP_DIGITS or set(clip_digest) - set("0123456789abcdef"):
            raise InputError(f"clip must be {CLIP_DIGITS} hex digits", param="clip")
        await forget_everywhere(clip_digest, namespace_of(request, voices.namespace))
        return {"clip": clip_digest, "deleted": True}


def _parse_warm(raw: RawBody) -> WarmRequest:
    if is_json(raw.content):
        tree = read_json(raw.content, raw.label.charset)
        body = validated(WarmBody, tree, tuple(WarmBody.model_fields))
        return WarmRequest(
            clip_bytes(body.audio, "audio"), body.durability == "writethrough", "audio"
        )
    if is_multipart(raw.content, raw.label):
        upload, param = only_clip(read_multipart(raw.content, raw.label))
        return WarmRequest(upload, is_durable=True, param=param)
    return WarmRequest(raw.content, is_durable=True, param="body")


_COUNTS = {
    "requests": {"voice": {"l1": {"hit": 41, "miss": 2}}},
    "computes": 2,
    "compute_failures": 0,
    "refused_records": 0,
    "joined": 1,
    "waited": 0,
    "saved_s": 12.6,
    "in_flight": 0,
    "l1": {"entries": 2, "bytes": 61_440, "max_bytes": 268_435_456, "evictions": 0, "refusals": 0},
    "alias": {"entries": 2, "bytes": 512, "max_bytes": 4_194_304, "evictions": 0, "refusals": 0},
    "tiers": {},
    "index": [],
    "set_aside": {},
}
_STATE_DOC = answers({**_COUNTS, "speech": {"enabled": False}}, CacheState)
_WARM_DOC = answers(
    {"clip": _DIGEST, "tier": "miss", "is_durable": True, "duration_s": 5.134, "warnings": []},
    Warmed,
    refused=UNUSABLE,
) | takes(
    {
        "application/json": body_of(WarmBody, {"audio": "UklGRi…", "durability": "writeback"}),
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": BINARY}, "required": ["file"]},
            "example": {"file": "RIFF…"},
        },
        "application/octet-stream": {"schema": BINARY},
    }
)
_FORGET_DOC = answers({"clip": _DIGEST, "deleted": True}, Forgotten, refused=(400, 503))
