"""The teacher's frames of characters → phones with their marks and where each begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.text.sounds.symbols import BORDER, MARKS, PAUSES, PHONES, spans
from training.speech.teacher import FRAME_SAMPLES, RATE_HZ, Spoken

SILENCE = ","  # the class of every pause
CLASSES: tuple[str, ...] = (SILENCE, *PHONES)  # 0 is silence
CLASS_ID = {symbol: i for i, symbol in enumerate(CLASSES)}
MARK_ID = {mark: i for i, mark in enumerate(MARKS)}  # 0 is none
QUIET_DB = -38.0  # against the loudest frame: a phone's end below it, before a pause, is silence
FRAME_S = FRAME_SAMPLES / RATE_HZ
LEAD_FRAMES = 1.0  # sounds begin so much before their frames: found where they follow silence


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """ids: int16, of CLASSES. marks: int8, of MARKS. starts_s: float64, ascending, from 0."""

    ids: NDArray[np.int16]
    marks: NDArray[np.int8]
    starts_s: NDArray[np.float64]


def aligned(
    sounds: str, spoken: Spoken, samples: NDArray[np.floating], faster: float = 1.0
) -> Aligned:
    """Phones of what was spoken, silence at both ends.

    samples: the sound, played `faster` than the teacher spoke it. The teacher counts a pause's
    silence to the phone before it, so the quiet end of a phone before a pause becomes part of that.
    """
    runs = phone_runs(sounds, spoken.frames)
    ids = [0, *(id_ for id_, _, _ in runs), 0]
    marks = [0, *(mark for _, mark, _ in runs), 0]
    lengths = [spoken.before, *(n for _, _, n in runs), spoken.after]
    starts = np.cumsum([0.0, *lengths[:-1]])
    starts[1:] -= LEAD_FRAMES
    starts *= FRAME_S / faster
    ends = np.append(starts[1:], len(samples) / RATE_HZ)
    loud = loudness(samples)
    for n in range(1, len(ids)):
        if ids[n] == 0 and ids[n - 1] != 0:
            starts[n] = _end_of_sound(loud, float(starts[n - 1]), float(ends[n - 1]))
    return Aligned(np.array(ids, np.int16), np.array(marks, np.int8), starts)


def symbol_starts_s(spoken: Spoken, faster: float = 1.0) -> NDArray[np.float64]:
    """Where the silence before, each character, and the silence after begin."""
    return np.cumsum([0, spoken.before, *spoken.frames]) * FRAME_S / faster


def phone_runs(sounds: str, frames: NDArray[np.integer]) -> list[tuple[int, int, float]]:
    """Class, mark and number of frames of each phone and pause.

    A mark's frames are its vowel's; a border's go by halves to its two neighbours.
    """
    of_character = np.asarray(frames, np.float64).copy()
    owner = np.full(len(sounds), -1)
    parts = spans(sounds)
    for number, (_, places) in enumerate(parts):
        owner[list(places)] = number
    totals = np.zeros(len(parts))
    for at, character in enumerate(sounds):
        if owner[at] >= 0:
            totals[owner[at]] += of_character[at]
            continue
        before = owner[at - 1] if at and owner[at - 1] >= 0 else None
        after = owner[at + 1] if character == BORDER and at + 1 < len(sounds) else None
        near = [n for n in (before, after) if n is not None and n >= 0] or [0]
        for n in near:
            totals[n] += of_character[at] / len(near)
    return [
        (
            0 if sound.symbol in PAUSES else CLASS_ID[sound.symbol],
            MARK_ID[sound.mark],
            float(total),
        )
        for (sound, _), total in zip(parts, totals, strict=True)
    ]


def loudness(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Level of every 5 ms against the loudest, in dB."""
    hop = RATE_HZ // 200
    whole = np.asarray(samples[: len(samples) // hop * hop], np.float64).reshape(-1, hop)
    power = np.convolve(np.square(whole).mean(1), np.ones(3) / 3, mode="same")
    return 10 * np.log10(power / max(power.max(initial=0.0), 1e-12) + 1e-12)


def _end_of_sound(loud: NDArray[np.floating], start_s: float, end_s: float) -> float:
    """Where the quiet end of a span begins."""
    first, last = int(start_s * 200), min(int(end_s * 200), len(loud))
    is_loud = np.flatnonzero(loud[first:last] > QUIET_DB)
    if not len(is_loud):
        return end_s
    return min(end_s, (first + int(is_loud[-1]) + 1) / 200)
