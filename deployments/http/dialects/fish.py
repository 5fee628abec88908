"""fish-speech's `/v1/tts`: its body in JSON, MessagePack or a form, and what it asks for.

What its clients always send and our model has no use for is taken, and told in a header; what would
change the sound and cannot be served is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgpack
from pydantic import AliasChoices, ConfigDict, Field

from deployments.config.settings import Limits
from deployments.http.bodies.fields import (
    ITEMS,
    NAME,
    OBJECT,
    ONLY,
    VOICE,
    Cached,
    Lenient,
    Seed,
    Speed,
    Temperature,
    TopP,
    refused,
    validated,
)
from deployments.http.bodies.forms import URLENCODED, Part, is_multipart
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import (
    PAYLOAD,
    Clip,
    RawBody,
    clip_among,
    is_json,
    read_parts,
)
from deployments.http.dialects.parsed_request import (
    Draw,
    ParsedRequest,
    Sound,
    Wish,
    checked_request,
)
from pipeline.errors import InputError

MSGPACK_KINDS = frozenset(
    {"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"}
)
FIX_MAPS, MAPS = range(0x80, 0x90), frozenset({0xDE, 0xDF})  # first bytes of a MessagePack object
KILOBIT = 1_000
_NESTED = re.compile(r"references[\[.]0\]?[\[.](audio|text)\]?")
_TRANSCRIPTS = frozenset({"reference_text", "ref_text", "prompt_text"})
_WANTED = "send JSON, MessagePack (Content-Type: application/msgpack), or a form"


class FishReference(Lenient):
    """A clip and what is said in it."""

    keeps_empty = frozenset({"audio"})

    audio: bytes | str | None = Field(None, description="Bytes in MessagePack, base64 in JSON")
    text: str = Field("", description="What is said in the clip")


class Prosody(Lenient):
    """How it is said."""

    speed: Speed = 1.0
    volume: Annotated[None, refused("change the level of what you get", 0.0, "0.0")] = None
    normalize_loudness: bool | None = None


class FishBody(Lenient):
    """`POST /v1/tts`."""

    model_config = ConfigDict(json_schema_extra={"required": ["text"]})
    keeps_empty = frozenset({"text"})

    text: str | None = Field(None, description="The text to speak")
    reference_id: Annotated[Annotated[str, VOICE], ONLY] | None = Field(
        None, description="A name from /v1/voices; ignored when a clip is given"
    )
    references: Annotated[list[FishReference], Field(max_length=1), ITEMS] | None = None
    format: Annotated[Literal["wav", "pcm", "mp3", "opus", "flac", "aac"], NAME] = "wav"
    sample_rate: int | None = Field(None, description="Hz; 24,000 when left out")
    mp3_bitrate: Literal[64, 128, 192] | None = Field(None, description="kbit/s")
    opus_bitrate: Literal[-1000, 24, 32, 48, 64] | None = Field(
        None, description="kbit/s; -1000 leaves it to us"
    )
    streaming: bool = Field(False, description="Bytes as they are made, in any format")
    seed: Seed = None
    cache: Cached = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    prosody: Annotated[Prosody, OBJECT] | None = None
    normalize: Annotated[
        None,
        refused("numbers are always read as words", True, "true", 1, "1", is_switch=False),
    ] = Field(None, description="Only true")
    use_memory_cache: str | None = Field(None, description="Taken: voices are always cached")
    latency: str | None = Field(None, description="Taken: audio is always sent as soon as made")
    chunk_length: int | None = Field(None, description="Taken: the model's own passages are used")
    max_new_tokens: int | None = Field(
        None, description="Taken: it bounds fish's passages; ours are bounded by their text"
    )
    repetition_penalty: float | None = Field(
        None, description="Taken, without effect: answers that loop are drawn again"
    )
    model: str | None = Field(
        None, validation_alias=AliasChoices("model", "backend"), description="Taken"
    )


def read_fish(raw: RawBody, limits: Limits, *, hears: bool = False) -> ParsedRequest:
    """A body as a request. Raises InputError."""
    tree, upload = _tree_of(raw)
    body = validated(FishBody, tree, tuple(FishBody.model_fields))
    return checked_request(_wish(body), limits, upload, hears=hears)


def _wish(body: FishBody) -> Wish:
    reference = body.references[0] if body.references else None
    has_clip = reference is not None and reference.audio is not None
    prosody = body.prosody or Prosody.model_validate({})
    rates = {"mp3": body.mp3_bitrate, "opus": body.opus_bitrate}
    bit_rate = rates.get(body.format)
    return Wish(
        text=body.text,
        text_param="text",
        voice=body.reference_id,
        voice_param="reference_id",
        clips={"references.0.audio": reference.audio or b""} if reference and has_clip else {},
        transcript=reference.text if reference else None,
        beside=dict.fromkeys(("references.0.audio", "audio", "references"), "references.0.text"),
        transcript_param="references.0.text",
        draw=Draw(body.seed, body.temperature, body.top_p),
        reuse=body.cache,
        speed=prosody.speed,
        sound=Sound(
            body.format,
            body.sample_rate,
            bit_rate * KILOBIT if bit_rate is not None and bit_rate > 0 else None,
        ),
        is_whole=not body.streaming,
        ignored=tuple(
            name
            for name in ("chunk_length", "max_new_tokens", "repetition_penalty")
            if getattr(body, name) is not None
        ),
    )


def _tree_of(raw: RawBody) -> tuple[Any, Clip | None]:
    if not raw.content.strip():
        raise InputError(f"the body is empty: {_WANTED}", param="body")
    if is_json(raw.content):
        return read_json(raw.content, raw.label.charset), None
    first = raw.content[0]
    if raw.label.kind in MSGPACK_KINDS or first in FIX_MAPS or first in MAPS:
        return _unpacked(raw.content), None
    if is_multipart(raw.content, raw.label) or raw.label.kind == URLENCODED:
        return _form(read_parts(raw))
    found = raw.label.kind or "none"
    raise InputError(
        f"the body (its Content-Type: {found[:60]}) is not known: {_WANTED}", param="body"
    )


def _unpacked(content: bytes) -> Any:
    try:
        return msgpack.unpackb(content, raw=False, strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise InputError(f"the body is not valid MessagePack: {error}", param="body") from error


def _form(parts: Sequence[Part]) -> tuple[Any, Clip | None]:
    """A form's fields; those of the reference by fish's names or `references[0][…]`."""
    upload = clip_among(parts)
    tree: dict[str, Any] = {}
    reference: dict[str, Any] = {}
    for part in parts:
        nested = _NESTED.fullmatch(part.name)
        if part.name == PAYLOAD:
            return read_json(part.content, part.charset), upload
        if nested:
            is_clip = nested[1] == "audio"
            reference[nested[1]] = part.content if is_clip and part.is_file else part.text
        elif part.name in _TRANSCRIPTS:
            reference["text"] = part.text
        elif part.name in {"references", "reference"} and part.is_file:
            reference["audio"] = part.content
        elif not part.is_file:
            tree[part.name] = part.text
    if reference:
        tree["references"] = [reference]
    return tree, upload
