"""Bodies with a clip beside fields: a form's, or JSON with base64. Names no field of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from deployments.http.bodies.clip_text import clip_bytes
from deployments.http.bodies.forms import (
    URLENCODED,
    Part,
    is_multipart,
    read_multipart,
    read_urlencoded,
)
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import WANTED, Clip, RawBody, is_json
from deployments.http.errors import about_clip
from pipeline.audio.sniff import sniff
from pipeline.errors import MAX_FOUND, InputError, TooLargeError

_MIME_TYPES = {
    "wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "matroska": "audio/webm",
    "mov": "audio/mp4", "amr": "audio/amr", "aiff": "audio/aiff", "caf": "audio/x-caf",
    "wv": "audio/x-wavpack", "asf": "audio/x-ms-wma", "mpegts": "video/mp2t",
}  # fmt: skip
_ADTS_MASK, _ADTS = 0xFFF6, 0xFFF0  # of the first 16 bits: AAC's frames, which mp3's resemble


def read_upload(raw: RawBody, clip_fields: Collection[str]) -> tuple[dict[str, Any], Clip | None]:
    """The fields of a body, and the clip in one of `clip_fields`. Raises InputError."""
    if not raw.content.strip():
        raise InputError(f"the body is empty: {WANTED}", param="body")
    if is_json(raw.content):
        tree = read_json(raw.content, raw.label.charset)
        if not isinstance(tree, dict):
            raise InputError("the body must be a JSON object", param="body")
        return _without_clip(tree, clip_fields)
    if is_multipart(raw.content, raw.label):
        return _of_parts(read_multipart(raw.content, raw.label), clip_fields)
    if raw.label.kind == URLENCODED:
        return _of_parts(read_urlencoded(raw.content, raw.label), clip_fields)
    raise InputError(f"the body is no JSON and no form: {WANTED}", param="body")


def check_size(clip: Clip, limit_bytes: int) -> None:
    """Raises TooLargeError naming the clip's field."""
    content, param = clip
    if len(content) > limit_bytes:
        raise TooLargeError(
            f"{param} has {len(content)} bytes, {limit_bytes} are allowed", param=param
        )


def checked_clip(clip: Clip | None, limit_bytes: int) -> tuple[bytes | None, str]:
    """The bytes of an upload's clip and what they are; nothing of none.

    Raises TooLargeError, UndecodableAudioError naming the clip's field.
    """
    if clip is None:
        return None, ""
    check_size(clip, limit_bytes)
    with about_clip(clip[1]):
        return clip[0], mime_type_of(clip[0])


def mime_type_of(clip: bytes) -> str:
    """What the bytes are, whatever their sender calls them. Raises UndecodableAudioError."""
    container = sniff(clip).container
    if container is not None:
        return _MIME_TYPES.get(container, "application/octet-stream")
    return "audio/aac" if int.from_bytes(clip[:2]) & _ADTS_MASK == _ADTS else "audio/mpeg"


def _without_clip(
    tree: dict[str, Any], clip_fields: Collection[str]
) -> tuple[dict[str, Any], Clip | None]:
    fields = {name: value for name, value in tree.items() if name not in clip_fields}
    sent = {name: tree[name] for name in tree if name in clip_fields and tree[name]}
    for name, value in sent.items():
        if not isinstance(value, str):
            raise InputError(f"{name}: base64 or a data: URI is expected", param=name)
    return fields, _only([(clip_bytes(value, name), name) for name, value in sent.items()])


def _of_parts(
    parts: Sequence[Part], clip_fields: Collection[str]
) -> tuple[dict[str, Any], Clip | None]:
    fields: dict[str, Any] = {}
    clips: list[Clip] = []
    for part in parts:
        name = part.name.lower()
        if name in clip_fields:
            is_text = not part.is_file and part.content.isascii()
            if part.content or part.is_file:
                clips.append((clip_bytes(part.text, name) if is_text else part.content, name))
        elif part.is_file:
            raise InputError(
                f"no file is expected in a part named {part.name[:MAX_FOUND]!r}; allowed: "
                f"{', '.join(clip_fields)}",
                param=part.name[:MAX_FOUND],
            )
        else:
            fields[part.name] = part.text
    return fields, _only(clips)


def _only(clips: Sequence[Clip]) -> Clip | None:
    if len(clips) > 1:
        found = " and ".join(name for _, name in clips)
        raise InputError(f"one clip is allowed, found {found}", param=clips[1][1])
    return clips[0] if clips else None
