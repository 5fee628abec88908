# pyright: basic
"""Finds the mark in any audio, however it was cut, slowed or encoded meanwhile."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from pipeline.audio.resample import StreamResampler
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array
from pipeline.marks.finding import Finding, Heard
from pipeline.marks.network import Decoder, load_networks
from pipeline.marks.spectrum import HALF_SAMPLES, WINDOW_SAMPLES, levels, spectrum

WINDOW_S = 10.0  # heard at a time: a mark in a part of a long file is not drowned by the rest


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


def alone() -> None:
    """Called on the thread that will listen: it is to take one core, whatever others of it have."""
    torch.set_num_threads(1)
