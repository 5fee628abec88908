"""Clips that nobody has heard before: listed ones with a noise below hearing, and their words."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.voice_list import load_voices

NOISE = 3  # of 32,767, at most


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording as it is sent."""

    wav: bytes
    words: str

    @property
    def base64(self) -> str:
        return base64.b64encode(self.wav).decode()


@lru_cache(maxsize=64)
def clip_of(number: int, nonce: int) -> Clip:
    """The clip of a number: always the same with one nonce, another with every other."""
    listed = list(load_voices().values())
    voice = listed[number % len(listed)]
    with wave.open(str(voice.path)) as file:
        form = file.getparams()
        samples = np.frombuffer(file.readframes(form.nframes), np.int16).astype(np.int32)
    dice = np.random.default_rng((nonce, number))
    noisy = samples + dice.integers(-NOISE, NOISE + 1, len(samples))
    sound = np.clip(noisy, -(2**15), 2**15 - 1).astype(np.int16)
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams(form)
        file.writeframes(sound.tobytes())
    return Clip(target.getvalue(), voice.transcript)
