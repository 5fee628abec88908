"""The cache over HTTP: look at it, encode ahead, remove a voice. Knows no tier."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, ValidationError

from deployments.http_models import explain_validation
from deployments.voices import VoiceLibrary
from pipeline.errors import AudioError, InputError, TooLargeError

CLIP_DIGITS = 64


class WarmBody(BaseModel):
    """`POST /v1/cache/warm` as JSON."""

    model_config = ConfigDict(extra="forbid")

    audio: str
    durability: Literal["writethrough", "writeback"] = "writethrough"


def add_cache_routes(
    app: FastAPI, voices: VoiceLibrary, forget_everywhere: Callable[[str], Awaitable[None]]
) -> None:
    """GET and DELETE /v1/cache, POST /v1/cache/warm.

    forget_everywhere: removes a clip in every router's memory and in the tiers below.
    """

    @app.get("/v1/cache")
    async def cache_state() -> dict[str, Any]:
        """Counters of this router's cache and of the cluster's index, and what is set aside."""
        return await voices.cache_report()

    @app.post("/v1/cache/warm")
    async def warm(request: Request) -> dict[str, Any]:
        """Encode a clip ahead of its first use.

        Its bytes as the body, or JSON with `audio` in base64.
        Answers after a durable tier has the record, unless `durability` is writeback.
        """
        clip, is_durable, param = await _warm_order(request)
        try:
            return await voices.warm(clip, is_durable=is_durable)
        except (AudioError, TooLargeError) as error:
            raise error.about(param) from error

    @app.delete("/v1/cache/{clip}")
    async def forget(clip: str) -> dict[str, Any]:
        """Remove a clip's record from every tier, by the `clip` that warming it answered with."""
        if len(clip) != CLIP_DIGITS or set(clip) - set("0123456789abcdef"):
            raise InputError(f"clip must be {CLIP_DIGITS} lower-case hex digits", param="clip")
        await forget_everywhere(clip)
        return {"clip": clip, "deleted": True}


async def _warm_order(request: Request) -> tuple[bytes, bool, str]:
    """The clip's bytes, whether to answer only when its record is durable, and the clip's field."""
    content = await request.body()
    if not request.headers.get("content-type", "").startswith("application/json"):
        return content, True, "body"
    try:
        body = WarmBody.model_validate_json(content)
        clip = base64.b64decode(body.audio, validate=True)
    except ValidationError as error:
        message, param = explain_validation(error.errors())
        raise InputError(message, param=param) from error
    except binascii.Error as error:
        raise InputError(f"audio is not valid base64: {error}", param="audio") from error
    return clip, body.durability == "writethrough", "audio"
