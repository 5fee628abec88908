# pyright: basic
"""Training audio for the tokenizers: utterances of one speaker in a row, disturbed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.speech.clips import TOKENIZER_RATE_HZ, Clip, Corpus

NOISY = 0.4  # share of streams with noise
SNR_DB = (8.0, 40.0)
ROOM = 0.25  # share with a short reverberation
TILT = 0.5  # share with a spectral tilt
PEAK = 0.999  # as the serving code normalises


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """samples: float32 [n] at 16 kHz, peak as in serving.

    clips: what it is made of; starts_s: where each begins.
    """

    samples: Tensor
    clips: list[Clip]
    starts_s: list[float]

    def labels(self, times_s: NDArray[np.floating]) -> NDArray[np.int64]:
        """The phone class at each time."""
        return self._gather(times_s, lambda clip, local: clip.labels(local), np.int64)

    def marks(self, times_s: NDArray[np.floating]) -> NDArray[np.int64]:
        """The tone or stress of the phone at each time, of MARKS."""
        return self._gather(times_s, lambda clip, local: clip.marks(local), np.int64)

    def f0(self, times_s: NDArray[np.floating]) -> NDArray[np.float32]:
        """F0 in Hz at each time, 0 where unvoiced."""

        def at(clip: Clip, local: NDArray[np.floating]) -> NDArray[np.float32]:
            return clip.f0[np.clip((local / 0.02).astype(int), 0, len(clip.f0) - 1)]

        return self._gather(times_s, at, np.float32)

    def _gather(self, times_s, at, dtype) -> NDArray:  # noqa: ANN001 — see the two callers
        which = np.searchsorted(self.starts_s, times_s, side="right") - 1
        which = np.maximum(which, 0)
        out = np.zeros(len(times_s), dtype)
        for i, (clip, start) in enumerate(zip(self.clips, self.starts_s, strict=True)):
            mine = which == i
            out[mine] = at(clip, times_s[mine] - start)
        return out


def draw_stream(
    corpus: Corpus, rng: np.random.Generator, longest_s: float, disturb: bool = True
) -> Stream:
    """Random clips of one random speaker, up to a random length; the first is always whole."""
    voices = list(corpus.of_voice)
    own = corpus.of_voice[voices[int(rng.integers(len(voices)))]]
    wanted_s = rng.uniform(2.0, longest_s)
    clips, starts_s, parts, now = [], [], [], 0
    for index in rng.permutation(own):
        clip = corpus[int(index)]
        if parts and now / TOKENIZER_RATE_HZ + clip.duration_s > wanted_s:
            break
        clips.append(clip)
        starts_s.append(now / TOKENIZER_RATE_HZ)
        parts.append(clip.audio16.astype(np.float32) / 32768 * float(10 ** rng.uniform(-0.2, 0.1)))
        now += len(clip.audio16)
    samples = np.concatenate(parts)
    if disturb:
        samples = _disturbed(samples, rng)
    samples = samples / max(0.01, float(np.abs(samples).max())) * PEAK
    return Stream(torch.from_numpy(samples.astype(np.float32)), clips, starts_s)


def _disturbed(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    level = float(np.sqrt(np.mean(np.square(samples)))) + 1e-6
    if rng.random() < ROOM:
        length = int(rng.uniform(0.03, 0.15) * TOKENIZER_RATE_HZ)
        decay = np.exp(-np.arange(length) / (length / 5))
        room = rng.standard_normal(length) * decay * rng.uniform(0.02, 0.1)
        room[0] = 1.0
        size = 1 << (len(samples) + length).bit_length()
        wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(room, size), size)
        samples = wet[: len(samples)].astype(np.float32)
    if rng.random() < TILT:
        slope = rng.uniform(-0.6, 0.6)
        tilted = samples.copy()
        tilted[1:] -= slope * samples[:-1]
        samples = tilted
    if rng.random() < NOISY:
        noise = rng.standard_normal(len(samples))
        if rng.random() < 0.5:
            noise = np.convolve(noise, np.ones(8) / 8, mode="same") * 2.8
        snr_db = rng.uniform(*SNR_DB)
        samples = samples + (noise * level * 10 ** (-snr_db / 20)).astype(np.float32)
    return samples
