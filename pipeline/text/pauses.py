"""Pauses that a text asks for, `[pause:500ms]` or `[pause:1.5s]`: silence in the audio."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import MAX_FOUND, UnsupportedError

LONGEST_S = 10.0
LONGEST_TOTAL_S = 120.0  # of one text, so that a short one makes no hour of silence
STRENGTHS_MS = {
    "none": 0, "x-weak": 100, "weak": 200, "medium": 400, "strong": 700, "x-strong": 1_000,
}  # fmt: skip
ASKED = re.compile(r"\[\s*pause\s*:(?P<time>[^\[\]]*)\]", re.IGNORECASE)
_TIME = re.compile(r"\s*\+?(?P<number>\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s*(?P<unit>ms|s)\s*")
_MARK = re.compile(r"\[pause:(?P<ms>\d{1,5})ms\]")
PROTECTED = r"\[pause:\d{1,5}ms\]"
_MS = 1_000


@dataclass(frozen=True, slots=True)
class Part:
    """What is said in one go, and the silence in front of it."""

    text: str
    before_s: float


@dataclass(frozen=True, slots=True)
class Paused:
    """A text in its parts, and the silence behind the last one."""

    parts: tuple[Part, ...]
    after_s: float


def with_marks(text: str) -> str:
    """Text whose pauses have one form, `[pause:1500ms]`; no pause at all is nothing.

    Raises UnsupportedError for a time that is none, or too long, alone or with the others.
    """
    if "pause" not in text.lower():
        return text
    text = ASKED.sub(lambda found: mark(milliseconds(found["time"], found[0])), text)
    total_ms = sum(int(found["ms"]) for found in _MARK.finditer(text))
    if total_ms > LONGEST_TOTAL_S * _MS:
        raise UnsupportedError(
            f"the pauses of the text are {total_ms / _MS:g} s together, "
            f"{LONGEST_TOTAL_S:g} s are allowed"
        )
    return text


def milliseconds(time: str, written: str) -> int:
    """`500ms`, `1.5s` → milliseconds. written: how a refusal names it. Raises UnsupportedError."""
    found = _TIME.fullmatch(time.lower())
    if found is not None:
        ms = float(found["number"]) * (_MS if found["unit"] == "s" else 1)
        if ms <= LONGEST_S * _MS:
            return round(ms)
    raise UnsupportedError(
        f"{written[:MAX_FOUND]} is no pause: write [pause:500ms] or [pause:1.5s], "
        f"{LONGEST_S:g}s at most"
    )


def pause_of(strength: str | None, time: str | None, written: str) -> str:
    """A `<break>` as a mark; its time wins. Raises UnsupportedError for a time that is none."""
    if time is not None:
        return mark(milliseconds(time, written))
    return mark(STRENGTHS_MS.get((strength or "medium").strip().lower(), STRENGTHS_MS["medium"]))


def mark(ms: int) -> str:
    """The pause as later steps know it; white space belongs to no word."""
    return f" [pause:{ms}ms] " if ms else " "


def without_pauses(text: str) -> str:
    """Text, in words, without its pauses."""
    return " ".join(_MARK.sub(" ", text).split()) if "[pause:" in text else text


def has_pauses(text: str) -> bool:
    """Whether a text, in words, asks for any."""
    return _MARK.search(text) is not None


def in_parts(text: str) -> Paused:
    """A text, in words, cut at its pauses.

    What holds no letter or digit makes no part: its pauses are one with the next.
    """
    parts, due_ms, at = list[Part](), 0, 0
    for found in (*_MARK.finditer(text), None):
        said = text[at : found.start() if found else len(text)].strip()
        if any(map(str.isalnum, said)):
            parts.append(Part(said, due_ms / _MS))
            due_ms = 0
        if found is not None:
            due_ms += int(found["ms"])
            at = found.end()
    if not parts:
        return Paused((Part(without_pauses(text), 0.0),), 0.0)
    return Paused(tuple(parts), due_ms / _MS)
