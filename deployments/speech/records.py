"""Finished speech as the cache's records, and back; the schema that holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.errors import RecordError
from pipeline.contracts import GOOD, GROUP_TOKENS, Drawn, Int16Array, Quality, Verdict

SPEECH_SCHEMA_VERSION = 1
_LAST_TOKEN = 5119
_FACTS = ("verdict", "is_retried", "prompt_tokens")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A finished answer.

    samples: int16 (n,), 24 kHz mono. drawn: its tokens; who made them is the record's key.
    """

    samples: Int16Array
    quality: Quality
    drawn: Drawn


def _check(record: Record) -> None:
    if len(record.arrays["tokens"]) % GROUP_TOKENS:
        raise RecordError(f"{len(record.arrays['tokens'])} tokens are no whole groups")
    missing = [name for name in _FACTS if name not in record.metadata]
    if missing:
        raise RecordError(f"the metadata lacks {', '.join(missing)}")
    if record.metadata["verdict"] not in {str(verdict) for verdict in Verdict}:
        raise RecordError(f"no verdict is called {record.metadata['verdict']!r}")


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
        "prompt_tokens": str(answer.drawn.prompt_tokens),
    }
    return Record({"samples": answer.samples, "tokens": answer.drawn.ids}, facts)


def to_answer(record: Record) -> Answer:
    """The inverse of `to_record`; arrays stay the record's read-only views."""
    facts = record.metadata
    quality = Quality(Verdict(facts["verdict"]), facts["is_retried"] == "1")
    drawn = Drawn(record.arrays["tokens"], int(facts["prompt_tokens"]), frozenset())
    return Answer(record.arrays["samples"], quality, drawn)


def to_note(quality: Quality) -> bytes:
    """What is said of an answer that is being made, for those who listen in."""
    return json.dumps([str(quality.verdict), quality.is_retried]).encode()


def quality_in(note: bytes) -> Quality:
    """The inverse of `to_note`; good where nothing was said."""
    if not note:
        return GOOD
    verdict, is_retried = json.loads(note)
    return Quality(Verdict(verdict), bool(is_retried))


def joined(pieces: list[Int16Array]) -> Int16Array:
    """All pieces as one, int16 (n,)."""
    return np.concatenate(pieces)
