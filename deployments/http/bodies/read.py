"""From the bytes of a request to its fields: what a body is shows in its bytes before its label.

JSON is read whatever Content-Type says, and the parts of a form, the clip among them by its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from deployments.http.bodies.budget import Hold
from deployments.http.bodies.clip_text import clip_bytes
from deployments.http.bodies.forms import (
    URLENCODED,
    Label,
    Part,
    is_multipart,
    read_multipart,
    read_urlencoded,
)
from pipeline.errors import InputError

PAYLOAD = "payload"  # the part of a form that holds the JSON body
CLIP_PARTS = (
    "prompt_audio_file", "input_audio_file", "prompt_audio", "input_audio", "ref_audio",
    "reference_audio", "audio_sample", "audio_file", "audio", "file", "clip", "reference",
    "prompt_wav", "speaker_wav",
)  # fmt: skip
WANTED = "send JSON (Content-Type: application/json), or a form (multipart/form-data)"
INLINE_BYTES = 64 * 2**10  # parsed and decoded in a tenth of a millisecond
Read = TypeVar("Read")
Clip = tuple[bytes, str]  # a clip and the part of a form it came in


@dataclass(frozen=True, slots=True, eq=False)
class RawBody:
    """A request's body as it came."""

    content: bytes
    label: Label


async def receive_body(request: Request, hold: Hold) -> RawBody:
    """The whole body, counted in `hold` before it is read.

    The request keeps nothing of it. Raises CapacityError when the budget is spent, InputError for
    one that is compressed, was cut off, or was lost on its way.
    """
    headers = request.headers
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"", "identity"}:
        raise InputError(f"Content-Encoding {coding[:20]} is not read: send it plain", param="body")
    declared = headers.get("content-length", "0")
    hold.cover(int(declared) if declared.isdecimal() else 0)
    content = bytearray()
    try:
        async for piece in request.stream():
            hold.cover(len(content) + len(piece))
            content += piece
    except ClientDisconnect as error:
        raise InputError("the connection closed before the body was complete") from error
    if not content and "upgrade" in headers:
        raise InputError(
            "the body did not get here: the HTTP parser of this service's proxy gives up at an "
            f"offer to upgrade ({headers['upgrade'][:20]}). Ask for HTTP/1.1 without the offer, or "
            "start the service with the controller_options of the shipped serve configs",
            param="body",
        )
    return RawBody(bytes(content), Label.of(headers.get("content-type", "")))


async def read_off_loop(read: Callable[[RawBody], Read], raw: RawBody) -> Read:
    """`read(raw)`; in a thread where a large body would hold the event loop."""
    if len(raw.content) <= INLINE_BYTES:
        return read(raw)
    return await asyncio.to_thread(read, raw)


def is_json(content: bytes) -> bool:
    """Whether a body is JSON by its first character, in whichever encoding."""
    start = content[:64]
    first = start.decode(json.detect_encoding(start), errors="ignore").lstrip("\ufeff \t\r\n")[:1]
    return first in {"{", "[", '"'}


def read_parts(raw: RawBody) -> Sequence[Part]:
    """The parts of a form. Raises InputError for a body that is none."""
    if is_multipart(raw.content, raw.label):
        return read_multipart(raw.content, raw.label)
    if raw.label.kind == URLENCODED:
        return read_urlencoded(raw.content, raw.label)
    found = raw.label.kind or "none"
    raise InputError(
        f"the body is no JSON and no form (its Content-Type: {found[:60]}): {WANTED}", param="body"
    )


def only_clip(parts: Sequence[Part]) -> Clip:
    """The clip of a form that holds nothing else of use. Raises InputError."""
    if (clip := clip_among(parts)) is None:
        raise InputError(
            f"the form holds no clip; allowed parts: {', '.join(CLIP_PARTS)}", param=CLIP_PARTS[0]
        )
    return clip


def clip_among(parts: Sequence[Part]) -> Clip | None:
    """The only clip of a form. Raises InputError for several, or one that cannot be read."""
    clips = [clip for part in parts if is_clip(part) for clip in _clip_in(part)]
    if len(clips) > 1:
        found = " and ".join(name for _, name in clips)
        raise InputError(f"one reference clip is allowed, found {found}", param=clips[1][1])
    return clips[0] if clips else None


def is_clip(part: Part) -> bool:
    """Whether a part has one of the names that clips are sent under."""
    return part.name.lower() in CLIP_PARTS


def _clip_in(part: Part) -> Sequence[Clip]:
    """A file's bytes, or what a text part says in base64; a text part left empty holds no clip."""
    if part.is_file or not part.content.isascii():
        return [(part.content, part.name)]
    if not part.content.strip():
        return []
    try:
        return [(clip_bytes(part.text, part.name), part.name)]
    except InputError as error:
        raise InputError(
            f"{error.message} (and no file; with curl, write @ before the path of one)",
            param=part.name,
        ) from error
