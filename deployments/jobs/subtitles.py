"""SubRip and WebVTT: cues in, cues out."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import MAX_FOUND, InputError

_TIME = r"(?:([0-9]{1,3}):)?([0-5]?[0-9]):([0-5]?[0-9])[.,]([0-9]{1,3})"
_ARROW = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_BLOCKS = re.compile(r"\n[^\S\n]*\n\s*")
_SPEAKER = re.compile(r"<v(?:\.[^\s<>]*)?\s([^<>]+)>")  # linear: a caller's text
_MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
_SPACE = re.compile(r"\s+")
_HEADS = ("WEBVTT", "NOTE", "STYLE", "REGION")


@dataclass(frozen=True, slots=True)
class Subtitle:
    """What is to be heard between two times."""

    begin_s: float
    end_s: float
    text: str
    speaker: str | None = None
    """As a WebVTT voice span names it."""


def read_subtitles(text: str, param: str) -> list[Subtitle]:
    """Cues of either format, in the order they are heard; those without words are left out.

    Raises InputError naming `param`, and the cue.
    """
    blocks = _BLOCKS.split(text.replace("\r\n", "\n").replace("\r", "\n").strip("\ufeff\n "))
    cues = [cue for number, block in enumerate(blocks, 1) if (cue := _cue(block, number, param))]
    if not cues:
        raise InputError(
            f"{param} holds no subtitles: cues with a line such as 00:00:01,000 --> 00:00:03,500 "
            "and words below it are expected",
            param=param,
        )
    return sorted(cues, key=lambda cue: (cue.begin_s, cue.end_s))


def is_subtitles(text: str) -> bool:
    """Whether a text is one of the formats: its first lines tell."""
    head = text.lstrip("\ufeff \n\r\t")[:2_000]
    lines = head.splitlines()[:4]
    return head.startswith("WEBVTT") or any(_ARROW.fullmatch(line) for line in lines[:2])


def to_srt(cues: Sequence[Subtitle]) -> str:
    """SubRip."""
    return "".join(_srt(number, cue) for number, cue in enumerate(cues, 1))


def to_vtt(cues: Sequence[Subtitle]) -> str:
    """WebVTT."""
    told = (
        f"{_clock(cue.begin_s, '.')} --> {_clock(cue.end_s, '.')}\n"
        f"{html.escape(_one_line(cue.text), quote=False)}\n\n"
        for cue in cues
    )
    return "WEBVTT\n\n" + "".join(told)


def _cue(block: str, number: int, param: str) -> Subtitle | None:
    lines = block.split("\n")
    if lines[0].startswith(_HEADS) and not any("-->" in line for line in lines[:2]):
        return None
    place = next((at for at, line in enumerate(lines[:2]) if "-->" in line), None)
    if place is None:
        if not block.strip():
            return None
        raise _wrong(block, number, param, "it has no line of times")
    found = _ARROW.fullmatch(lines[place])
    if found is None:
        raise _wrong(lines[place], number, param, "its times are not as 00:00:01,000")
    begin_s, end_s = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
    if end_s <= begin_s:
        raise _wrong(lines[place], number, param, "it ends before it begins")
    said = "\n".join(lines[place + 1 :])
    speaker = _SPEAKER.search(said)
    words = _SPACE.sub(" ", html.unescape(_MARKUP.sub("", said))).strip()
    if not words:
        return None
    return Subtitle(begin_s, end_s, words, speaker[1].strip() if speaker else None)


def _wrong(found: str, number: int, param: str, why: str) -> InputError:
    shown = found.strip()[:MAX_FOUND]
    return InputError(f"{param}: block {number} is no cue: {why}, found {shown!r}", param=param)


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    whole_s = int(hours or 0) * 3_600 + int(minutes or 0) * 60 + int(seconds or 0)
    return whole_s + int((fraction or "0").ljust(3, "0")) / 1_000


def _srt(number: int, cue: Subtitle) -> str:
    times = f"{_clock(cue.begin_s, ',')} --> {_clock(cue.end_s, ',')}"
    return f"{number}\n{times}\n{_one_line(cue.text)}\n\n"


def _one_line(text: str) -> str:
    """No blank line may end a cue early."""
    return _SPACE.sub(" ", text).replace("-->", "→").strip()


def _clock(seconds: float, mark: str) -> str:
    whole_ms = round(seconds * 1_000)
    minutes, ms = divmod(whole_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{ms // 1_000:02d}{mark}{ms % 1_000:03d}"
