"""Metrics of transfers between stages: bytes of arrays, and seconds in transit."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import numpy as np

from deployments.telemetry import metrics as table

Value = TypeVar("Value")


class Hop(StrEnum):
    """Sending and receiving stage; the value of the label `hop`."""

    ROUTER_VOCODER = "router_vocoder"
    TOKENIZER_ROUTER = "tokenizer_router"
    LLM_VOCODER = "llm_vocoder"
    VOCODER_ROUTER = "vocoder_router"


@dataclass(frozen=True, slots=True, eq=False)
class Stamped(Generic[Value]):
    """A record in transit between stages."""

    value: Value
    sent_s: float
    """The sender's wall clock."""


def stamped(value: Value) -> Stamped[Value]:
    """`value`, sent now."""
    return Stamped(value, time.time())


class Transfers:
    """Counts transfers between stages.

    Seconds are differences of wall clocks: between machines they are as exact as the clocks.
    """

    def __init__(self) -> None:
        self._bytes = table.TRANSFER_BYTES.open()
        self._seconds = table.TRANSFER_TIME.open()

    def received(self, hop: Hop, record: Stamped[Value]) -> Value:
        """Count `record` as arrived now over `hop` and unwrap it."""
        tags = {"hop": hop.value}
        if n_bytes := array_bytes(record.value):
            self._bytes.inc(n_bytes, tags=tags)
        self._seconds.observe(max(time.time() - record.sent_s, 0.0), tags=tags)
        return record.value


def array_bytes(record: object) -> int:
    """Bytes of all arrays in a dataclass."""
    if isinstance(record, np.ndarray):
        return record.nbytes
    if is_dataclass(record):
        return sum(array_bytes(getattr(record, field.name)) for field in fields(record))
    return 0
