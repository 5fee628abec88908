"""vLLM-Omni's batch: up to 32 bodies of `/v1/audio/speech`, and fields that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from deployments.config.settings import Limits
from deployments.http.bodies.fields import ITEMS, validated
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import RawBody, is_json
from deployments.http.dialects.parsed_request import longest_held_chars
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


def read_batch(raw: RawBody, limits: Limits) -> list[dict[str, Any]]:
    """Every item as the body of a request of its own. Raises InputError."""
    if not is_json(raw.content):
        raise InputError("the body is no JSON: send an object with items", param="body")
    tree = read_json(raw.content, raw.label.charset)
    if isinstance(tree, dict) and not tree.get(_ITEMS):
        raise InputError(f"items is required: 1 to {MOST_ITEMS} requests", param=_ITEMS)
    batch = validated(SpeechBatch, tree, tuple(StepAudio.model_fields))
    shared = {name: value for name, value in tree.items() if name not in _NOT_SHARED}
    items = [{**shared, **item, "stream": None, "stream_format": None} for item in batch.items]
    _check_length(items, limits)
    return items


def speech_body(tree: dict[str, Any]) -> SpeechBody:
    """One item as a body. Raises InputError."""
    return validated(SpeechBody, tree, tuple(StepAudio.model_fields))


def _check_length(items: Sequence[dict[str, Any]], limits: Limits) -> None:
    """All of it lies in memory until it is sent; one that is too long alone is not spoken."""
    most = longest_held_chars(limits)
    n_chars = sum(n for n in map(_n_chars, items) if n <= most)
    if n_chars > most:
        raise InputError(
            f"items have {n_chars} characters, {most} are allowed together "
            "(limits.max_whole_text_chars): send fewer at a time, or a job to /v1/audio/jobs",
            param=_ITEMS,
        )


def _n_chars(item: dict[str, Any]) -> int:
    """Of what an item says; none of one that is no body."""
    try:
        body = speech_body(item)
    except InputError:
        return 0
    texts = [body.input or ""] if body.inputs is None else [turn.text for turn in body.inputs]
    return sum(len(text.strip()) for text in texts)
