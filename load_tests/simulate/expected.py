"""What the service expects of a call before it is made: how long it sounds, and in which passages.

By its own code. Texts are taken to be plain words, which no front end makes others of.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from deployments.admission.demand import LEAST_S
from load_tests.load.plan import Call
from pipeline.contracts import GROUP_S, GROUP_VQ02, GROUP_VQ06, VoicePrompt
from pipeline.splitting.weights import expected_s
from pipeline.stepaudio.tokenizer.features import TOKENIZER_RATE_HZ, clip_tokenizer_wav
from pipeline.text.segment import passages
from pipeline.voice_list import load_voices


@dataclass(frozen=True, slots=True)
class Expected:
    """Of one call."""

    audio_s: float
    passages: tuple[float, ...]
    """Shares of the whole."""


def expected_of(call: Call, passage_s: float) -> Expected:
    """passage_s: the longest passage."""
    names = list(load_voices())
    name = call.voice if call.clip is None else names[call.clip % len(names)]
    cost = expected_s(load_voices()[name].transcript, prompt_of(name))
    costs = [cost(part) for part in passages(call.text, cost, passage_s)]
    whole_s = sum(costs)
    return Expected(max(whole_s, LEAST_S), tuple(one / whole_s for one in costs))


@cache
def clip_seconds() -> tuple[float, ...]:
    """Of the listed voices, in their order; sent clips are made of them."""
    return tuple(prompt_of(name).duration_s for name in load_voices())


@cache
def prompt_of(name: str) -> VoicePrompt:
    """A listed voice, as far as a rate is told by it."""
    with wave.open(str(load_voices()[name].path)) as file:
        rate_hz = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(2**15)
    spoken = clip_tokenizer_wav(torch.from_numpy(samples), rate_hz)
    n = int(len(spoken) / TOKENIZER_RATE_HZ / GROUP_S)
    return VoicePrompt(
        vq02=np.zeros(n * GROUP_VQ02, np.int16),
        vq06=np.zeros(n * GROUP_VQ06, np.int16),
        prompt_mel=np.zeros((0, 80), np.float32),
        speaker_embedding=np.zeros(192, np.float32),
        duration_s=len(samples) / rate_hz,
        fingerprint="",
    )
