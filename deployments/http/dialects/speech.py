"""The body of `/v1/audio/speech`: three dialects on one route, whose fields may stand together.

It is JSON, or a form whose part `payload` holds it or whose parts are its fields.

The top level ignores fields it does not know, as its peers do, because clients send extras;
`step_audio` and `extra_params`, whose keys change what is spoken, refuse unknown keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ConfigDict

from deployments.config.settings import Limits
from deployments.http.bodies.fields import validated
from deployments.http.bodies.forms import Part
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import (
    CLIP_PARTS,
    PAYLOAD,
    WANTED,
    Clip,
    RawBody,
    clip_among,
    is_clip,
    is_json,
    read_parts,
)
from deployments.http.dialects.dialogue import DialogueFields
from deployments.http.dialects.omni import OmniFields, read_omni
from deployments.http.dialects.openai import OpenAIFields, read_openai
from deployments.http.dialects.parsed_request import ParsedRequest, Wish, checked_request
from deployments.http.dialects.predecessor import PredecessorFields, StepAudio, read_predecessor
from deployments.http.dialects.reading_fields import ReadingFields, asked_reading
from pipeline.errors import MAX_FOUND, InputError

STEP = "step_audio"
STEP_FIELDS = frozenset(StepAudio.model_fields)


class SpeechBody(DialogueFields, OmniFields, PredecessorFields, ReadingFields, OpenAIFields):
    """`POST /v1/audio/speech`."""

    model_config = ConfigDict(populate_by_name=True)
    keeps_empty = OpenAIFields.keeps_empty | OmniFields.keeps_empty


SPEECH_FIELDS = frozenset((*SpeechBody.model_fields, "speaker"))


def read_speech(raw: RawBody) -> tuple[SpeechBody, Clip | None]:
    """The body of a speech request, and the clip that came beside it. Raises InputError."""
    if not raw.content.strip():
        raise InputError(f"the body is empty: {WANTED}", param="body")
    if is_json(raw.content):
        return _speech(read_json(raw.content, raw.label.charset)), None
    parts = read_parts(raw)
    if len(parts) == 1 and not parts[0].content and parts[0].name.startswith("{"):
        return _speech(read_json(parts[0].name.encode())), None  # curl --data-urlencode '{…}'
    tree, clip = _read_form(parts)
    return _speech(tree), clip


def parse_request(
    body: SpeechBody,
    limits: Limits,
    upload: Clip | None = None,
    *,
    hears: bool = False,
    fetches: bool = False,
) -> ParsedRequest:
    """Check a body against the limits.

    upload: a clip that came as a file, and the name of its part. hears, fetches: see
    checked_request.
    Raises InputError naming the field, what was found and what is allowed.
    """
    return checked_request(read_wish(body), limits, upload, hears=hears, fetches=fetches)


def read_wish(body: SpeechBody) -> Wish:
    """What a body's dialects ask for together.

    `stream: true` means events to vLLM-Omni's clients, audio as it is made to the predecessor's.
    """
    wish = read_predecessor(body, read_omni(body, read_openai(body)))
    if body.stream_format is not None or body.step_audio is not None:
        wish = replace(wish, is_sse=body.stream_format == "sse")
    is_whole = wish.is_whole and not wish.is_sse
    return replace(wish, is_whole=is_whole, reading=asked_reading(body))


def _read_form(parts: Sequence[Part]) -> tuple[Any, Clip | None]:
    """A form's parts as the tree of a JSON body, and the clip among them.

    The tree is the part `payload`; without one, the fields themselves, those of step_audio by
    their own name or behind `step_audio.`. Raises InputError.
    """
    clip, tree = clip_among(parts), _fields_among(parts)
    for part in parts:
        if part.name == PAYLOAD:
            return read_json(part.content, part.charset), clip
    if not tree:
        found = ", ".join(part.name[:MAX_FOUND] for part in parts) or "none"
        raise InputError(
            "the form needs a part named payload with the JSON body, or its fields (input, voice, "
            f"…) as parts; parts found: {found}",
            param=PAYLOAD,
        )
    return tree, clip


def _fields_among(parts: Sequence[Part]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    step: dict[str, Any] = {}
    for part in parts:
        outer, _, inner = part.name.replace("[", ".").rstrip("]").partition(".")
        if outer == STEP and inner:
            step[inner] = part.text
        elif part.name in STEP_FIELDS:
            step[part.name] = part.text
        elif part.name in SPEECH_FIELDS and not is_clip(part):
            fields[part.name] = part.text
        elif part.is_file and part.name != PAYLOAD and not is_clip(part):
            name = part.name[:MAX_FOUND]
            raise InputError(
                f"no clip is expected in a part named {name!r}; allowed: {', '.join(CLIP_PARTS)}",
                param=name,
            )
    return {**fields, STEP: step} if step else fields


def _speech(tree: Any) -> SpeechBody:
    return validated(SpeechBody, tree, tuple(StepAudio.model_fields))
