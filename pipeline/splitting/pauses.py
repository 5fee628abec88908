"""Pauses of a clip: where it may be cut, and how much was spoken before each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.audio.condition import sounding_frames
from pipeline.audio.levels import FRAME_S, measure_levels
from pipeline.contracts import Float32Array

SHORTEST_PAUSE_S = 0.16  # stops within words are shorter


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence between two sounds, in seconds."""

    middle_s: float
    """Where a cut would be."""
    length_s: float
    spoken_s: float
    """Of the clip before it, pauses aside."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Of a whole clip."""

    inner: tuple[Pause, ...]
    """In order; silence at the ends is none of them."""
    spoken_s: float
    """Of the whole clip, pauses aside."""
    whole_s: float


def find_pauses(samples: Float32Array, sample_rate_hz: int) -> Pauses:
    """samples: float32 (n,)."""
    sounding = sounding_frames(measure_levels(samples, sample_rate_hz))
    whole_s = len(samples) / sample_rate_hz
    if not len(sounding):
        return Pauses((), 0.0, whole_s)
    silent_frames = np.diff(sounding) - 1
    inner, silent_s = list[Pause](), 0.0
    for index in np.flatnonzero(silent_frames * FRAME_S >= SHORTEST_PAUSE_S):
        start_s, length_s = (sounding[index] + 1) * FRAME_S, silent_frames[index] * FRAME_S
        spoken_s = start_s - sounding[0] * FRAME_S - silent_s
        inner.append(Pause(float(start_s + length_s / 2), float(length_s), float(spoken_s)))
        silent_s += length_s
    spoken_s = (sounding[-1] + 1 - sounding[0]) * FRAME_S - silent_s
    return Pauses(tuple(inner), float(spoken_s), whole_s)
