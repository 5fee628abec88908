"""Finished speech as the cache's records, and back; the schema that holds it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np

from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.errors import RecordError
from pipeline.contracts import (
    GOOD,
    GROUP_TOKENS,
    NO_USAGE,
    Drawn,
    Int16Array,
    Quality,
    Usage,
    Verdict,
)

SPEECH_SCHEMA_VERSION = 1
_LAST_TOKEN = 5119
_COUNT = re.compile(r"[0-9]{1,9}")
_FACTS = ("verdict", "is_retried", "input_tokens", "output_tokens", "is_single")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A finished answer."""

    samples: Int16Array
    """(n,), 24 kHz mono."""
    quality: Quality
    """What the guard thinks of it."""
    usage: Usage
    """As its chain counted."""
    is_single: bool
    """It was made in one piece."""
    drawn: Drawn
    """Its tokens; who made them is in the record's key."""


def _check(record: Record) -> None:
    if len(record.arrays["tokens"]) % GROUP_TOKENS:
        raise RecordError(f"{len(record.arrays['tokens'])} tokens are no whole groups")
    missing = [name for name in _FACTS if name not in record.metadata]
    if missing:
        raise RecordError(f"the metadata lacks {', '.join(missing)}")
    if record.metadata["verdict"] not in {str(verdict) for verdict in Verdict}:
        raise RecordError(f"no verdict is called {record.metadata['verdict']!r}")
    for name in ("input_tokens", "output_tokens"):
        if not _COUNT.fullmatch(record.metadata[name]):
            raise RecordError(f"{name} is {record.metadata[name][:20]!r}, not a count")


SPEECH_SCHEMA = RecordSchema(
    "speech",
    SPEECH_SCHEMA_VERSION,
    (
        FieldSpec("samples", "int16", (None,), min_rows=1),
        FieldSpec("tokens", "int16", (None,), minimum=0, maximum=_LAST_TOKEN, min_rows=5),
    ),
    check=_check,
)


def to_record(answer: Answer) -> Record:
    """An answer as the cache stores it."""
    facts = {
        "verdict": str(answer.quality.verdict),
        "is_retried": str(int(answer.quality.is_retried)),
        "input_tokens": str(answer.usage.input_tokens),
        "output_tokens": str(answer.usage.output_tokens),
        "is_single": str(int(answer.is_single)),
    }
    return Record({"samples": answer.samples, "tokens": answer.drawn.ids}, facts)


def to_answer(record: Record) -> Answer:
    """The inverse of `to_record`; arrays stay the record's read-only views."""
    facts = record.metadata
    quality = Quality(Verdict(facts["verdict"]), facts["is_retried"] == "1")
    usage = Usage(int(facts["input_tokens"]), int(facts["output_tokens"]))
    drawn = Drawn(record.arrays["tokens"], frozenset())
    is_single = facts["is_single"] == "1"
    return Answer(record.arrays["samples"], quality, usage, is_single, drawn)


def to_note(quality: Quality, usage: Usage, *, is_single: bool) -> bytes:
    """What is said of an answer that is being made, for those who listen in."""
    used = usage.input_tokens, usage.output_tokens
    return json.dumps([str(quality.verdict), quality.is_retried, *used, is_single]).encode()


def from_note(note: bytes) -> tuple[Quality, Usage, bool]:
    """The inverse of `to_note`; good and unused where nothing was said."""
    if not note:
        return GOOD, NO_USAGE, False
    verdict, is_retried, input_tokens, output_tokens, is_single = json.loads(note)
    quality = Quality(Verdict(verdict), bool(is_retried))
    return quality, Usage(input_tokens, output_tokens), bool(is_single)


def joined(pieces: list[Int16Array]) -> Int16Array:
    """All pieces as one, int16 (n,)."""
    return np.concatenate(pieces)
