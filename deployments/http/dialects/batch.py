"""vLLM-Omni's batch: up to 32 bodies of `/v1/audio/speech`, and fields that all of them share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from deployments.http.bodies.fields import ITEMS, validated
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import RawBody, is_json
from deployments.http.dialects.predecessor import StepAudio
from deployments.http.dialects.speech import SpeechBody
from pipeline.errors import InputError

MOST_ITEMS = 32
_ITEMS = "items"
_NOT_SHARED = frozenset({_ITEMS, "input", "stream", "stream_format", "inputs"})


class SpeechBatch(SpeechBody):
    """`POST /v1/audio/speech/batch`. Other fields are the items' own, where they have none."""

    model_config = ConfigDict(populate_by_name=True, json_schema_extra={"required": [_ITEMS]})

    items: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_ITEMS), ITEMS] = (
        Field(default_factory=list, description="Bodies of /v1/audio/speech")
    )


def read_batch(raw: RawBody) -> list[dict[str, Any]]:
    """Every item as the body of a request of its own. Raises InputError."""
    if not is_json(raw.content):
        raise InputError("the body is no JSON: send an object with items", param="body")
    tree = read_json(raw.content, raw.label.charset)
    if isinstance(tree, dict) and not tree.get(_ITEMS):
        raise InputError(f"items is required: 1 to {MOST_ITEMS} requests", param=_ITEMS)
    batch = validated(SpeechBatch, tree, tuple(StepAudio.model_fields))
    shared = {name: value for name, value in tree.items() if name not in _NOT_SHARED}
    return [{**shared, **item, "stream": None, "stream_format": None} for item in batch.items]


def speech_body(tree: dict[str, Any]) -> SpeechBody:
    """One item as a body. Raises InputError."""
    return validated(SpeechBody, tree, tuple(StepAudio.model_fields))
