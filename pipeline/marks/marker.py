# pyright: basic
"""Marks speech as it is made, chunk by chunk.

A chunk is marked with what came before it in view and nothing of what will come: no sample waits.
Where chunks meet, the mark of the one is faded into that of the other. What is added depends on the
samples and on where chunks end, and on nothing else.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.contracts import Float32Array
from pipeline.marks.network import CONTEXT_FRAMES, Encoder, load_networks
from pipeline.marks.spectrum import (
    CPU,
    HALF_SAMPLES,
    HOP_SAMPLES,
    difference,
    levels,
    spectrum,
    waveform,
)

VERSION = 1  # raise when the same speech is marked otherwise: part of the vocoder's fingerprint
FADE_SAMPLES = HOP_SAMPLES  # 10 ms
_WINDOW_FRAMES = -(-HALF_SAMPLES // HOP_SAMPLES)  # that reach into a sample, to each side
_BEHIND_FRAMES = CONTEXT_FRAMES + _WINDOW_FRAMES  # before a chunk, of which its mark depends
_KEPT_SAMPLES = (_BEHIND_FRAMES + 1) * HOP_SAMPLES + HALF_SAMPLES
_NONE = np.zeros(0, np.float32)


class Marker:
    """The loaded network. Never changes; safe from any thread."""

    def __init__(self, encoder: Encoder, device: torch.device = CPU) -> None:
        self._encoder, self._device = encoder.to(device), device

    @classmethod
    def load(cls, device: str = "cpu") -> Marker:
        """Raises as `load_networks`."""
        return cls(load_networks().encoder, torch.device(device))

    @property
    def weight_bytes(self) -> int:
        """Bytes that it holds of its device."""
        return sum(weight.nbytes for weight in self._encoder.parameters())

    def begin(self) -> StreamMark:
        """For one stream."""
        return StreamMark(self._encoder, self._device)


class StreamMark:
    """One stream's mark. Not safe from several threads; calls block for some 2% of the audio."""

    def __init__(self, encoder: Encoder, device: torch.device) -> None:
        self._encoder, self._device = encoder, device
        self._behind = _NONE  # the last samples as they came
        self._start = 0  # where those begin in the stream
        self._ahead = _NONE  # the mark, as it would have gone on

    def process(self, samples: Float32Array) -> Float32Array:
        """The next samples, float32 (n,) at 24 kHz → the same, marked, |x| ≤ 1."""
        if not len(samples):
            return samples
        heard = np.concatenate((self._behind, samples))
        end = self._start + len(heard)
        begin = end - len(samples)
        added, at = self._mark(heard)
        mark = added[begin - at : end - at]
        n_faded = min(len(self._ahead), len(mark))
        if n_faded:
            mark = mark.copy()
            rise = _RISE[:n_faded]
            mark[:n_faded] = rise * mark[:n_faded] + (1 - rise) * self._ahead[:n_faded]
        self._ahead = added[end - at :][:FADE_SAMPLES]
        n_kept = min(len(heard), _KEPT_SAMPLES)
        n_kept -= -(end - n_kept) % HOP_SAMPLES  # frames stay where they are in the stream
        self._behind, self._start = heard[len(heard) - n_kept :].copy(), end - n_kept
        return np.clip(samples + mark, -1, 1)

    def _mark(self, heard: Float32Array) -> tuple[Float32Array, int]:
        """What is added to speech, and where in the stream that begins; it goes on behind it.

        Past both ends it is mirrored: frames at the end see a guess of what comes.
        """
        n_frames = len(heard) // HOP_SAMPLES + 1
        padded = np.pad(heard, HALF_SAMPLES, mode="reflect")
        with torch.inference_mode():
            lines = spectrum(padded, self._device)[:, :n_frames]
            seen, mask = levels(lines)
            residual = self._encoder(seen, mask)[0]
            added = waveform(difference(lines, residual))
        return added, self._start - HALF_SAMPLES


_RISE = (np.sin(np.linspace(0.0, np.pi / 2, FADE_SAMPLES)) ** 2).astype(np.float32)
