# pyright: basic
"""Finds the mark in any audio, however it was cut, slowed or encoded meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from pipeline.audio.resample import StreamResampler
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array
from pipeline.marks.network import Decoder, load_networks
from pipeline.marks.spectrum import HALF_SAMPLES, WINDOW_SAMPLES, levels, spectrum

THRESHOLD = 0.5
WINDOW_S = 10.0  # heard at a time: a mark in a part of a long file is not drowned by the rest


@dataclass(frozen=True, slots=True)
class Heard:
    """A stretch of the audio."""

    begin_s: float
    end_s: float
    score: float
    """0 to 1: how surely it is marked."""

    @property
    def is_marked(self) -> bool:
        return self.score >= THRESHOLD


@dataclass(frozen=True, slots=True)
class Finding:
    """What was heard of a mark, stretch by stretch."""

    stretches: tuple[Heard, ...]

    @property
    def score(self) -> float:
        """Of the stretch that is marked the most surely."""
        return max((one.score for one in self.stretches), default=0.0)

    @property
    def is_marked(self) -> bool:
        """Some of it is."""
        return self.score >= THRESHOLD

    @property
    def heard_s(self) -> float:
        """How much was listened to."""
        return sum(one.end_s - one.begin_s for one in self.stretches)

    @property
    def marked_s(self) -> float:
        """How much of it is in stretches that are marked."""
        return sum(one.end_s - one.begin_s for one in self.stretches if one.is_marked)


class Detector:
    """The loaded network. Never changes; safe from any thread."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @classmethod
    def load(cls) -> Detector:
        """Raises as `load_networks`."""
        return cls(load_networks().decoder)

    def find(self, samples: Float32Array, sample_rate_hz: int) -> Finding:
        """float32 (n,), mono. Blocks for some 3% of the audio; bound it."""
        changed = StreamResampler(sample_rate_hz, OUTPUT_SAMPLE_RATE_HZ)
        audio = np.concatenate((changed.process(samples), changed.finish()))
        size = int(WINDOW_S * OUTPUT_SAMPLE_RATE_HZ)
        n_windows = max(round(len(audio) / size), 1)
        borders = np.linspace(0, len(audio), n_windows + 1).astype(int).tolist()
        stretches = (self._heard(audio, begin, end) for begin, end in pairwise(borders))
        return Finding(tuple(stretches))

    def _heard(self, audio: Float32Array, begin: int, end: int) -> Heard:
        times = (begin / OUTPUT_SAMPLE_RATE_HZ, end / OUTPUT_SAMPLE_RATE_HZ)
        if end - begin < WINDOW_SAMPLES:  # of which nothing can be said
            return Heard(*times, 0.0)
        padded = np.pad(audio[begin:end], HALF_SAMPLES, mode="reflect")
        with torch.inference_mode():
            score = float(self._decoder(*levels(spectrum(padded)))[0])
        return Heard(*times, min(max(score, 0.0), 1.0))
