"""The shape in which replies tell of the segments of a long text."""

from __future__ import annotations

from pydantic import BaseModel

from pipeline.contracts import Verdict


class BadSegment(BaseModel):
    """A segment that stayed bad: where in the text it is, and what the guard says of it.

    reason: why one that is lost could not be spoken.
    """

    index: int
    verdict: Verdict
    start: int
    end: int
    text: str
    reason: str = ""


class Segments(BaseModel):
    """Of a text that is spoken in segments. ended: heard, or lost. bad: at most 100 of them."""

    count: int
    ended: int
    retried: int
    bad_count: int
    bad: list[BadSegment]
