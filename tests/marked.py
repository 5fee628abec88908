"""Speech that is marked as the vocoder marks it, without a vocoder; and a detector of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import cache

import numpy as np

from deployments.marks.checks import heard
from pipeline.audio.decode import decode_clip
from pipeline.audio.encode import from_pcm16
from pipeline.audio.resample import StreamResampler
from pipeline.contracts import (
    OUTPUT_SAMPLE_RATE_HZ,
    Drawn,
    Float32Array,
    SpeechChunk,
    SpeechRequest,
    Usage,
    VoicePrompt,
)
from pipeline.marks.detector import Detector
from pipeline.marks.marker import Marker
from pipeline.voice_list import load_voices
from tests.fakes import FakeNames

LONGEST_S = 600.0
SPOKEN_S = 2.4
BORDERS = (14_400, 36_000)  # of the chunks that an answer comes in


@cache
def clip(name: str = "aria") -> Float32Array:
    """A built-in voice's clip at 24 kHz."""
    read = decode_clip(load_voices()[name].path.read_bytes())
    changed = StreamResampler(read.sample_rate_hz, OUTPUT_SAMPLE_RATE_HZ)
    return np.concatenate((changed.process(read.samples), changed.finish()))


@cache
def answer(*, is_marked: bool) -> tuple[Float32Array, ...]:
    """The chunks of an answer."""
    spoken = clip()[: int(SPOKEN_S * OUTPUT_SAMPLE_RATE_HZ)]
    pieces = np.split(spoken, BORDERS)
    mark = Marker.load().begin()
    return tuple(mark.process(piece) for piece in pieces) if is_marked else tuple(pieces)


@cache
def detector() -> Detector:
    return Detector.load()


def score(audio: bytes, audio_format: str = "") -> float:
    """How surely a file, or audio without a container, is marked."""
    if audio_format == "pcm":
        samples, rate_hz = from_pcm16(np.frombuffer(audio, np.int16)), OUTPUT_SAMPLE_RATE_HZ
    elif audio_format == "pcmu":
        samples, rate_hz = from_mu_law(audio), 8_000
    else:
        samples, rate_hz = from_pcm16(heard(audio, LONGEST_S)), OUTPUT_SAMPLE_RATE_HZ
    return detector().find(samples, rate_hz).score


def from_mu_law(data: bytes) -> Float32Array:
    """ITU-T G.711."""
    coded = ~np.frombuffer(data, np.uint8)
    sign, segment, step = coded & 0x80, (coded >> 4) & 7, (coded & 0x0F).astype(np.int32)
    value = (((step << 3) + 0x84) << segment) - 0x84
    return (np.where(sign, -value, value) / 32_768).astype(np.float32)


class MarkedSpeaker:
    """Says the same whatever is asked for, marked unless the request's terms say otherwise."""

    def __init__(self, names: FakeNames) -> None:
        self.requests: list[SpeechRequest] = []
        self._names = names

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del voice
        self.requests.append(request)
        made_by = frozenset({self._names.names["vocoder"], await self._names.lm(request.variant)})
        pieces = answer(is_marked=request.terms.is_marked)
        for number, piece in enumerate(pieces, 1):
            is_last = number == len(pieces)
            drawn = Drawn(np.zeros(100, np.int16), made_by) if is_last else None
            yield SpeechChunk(piece, is_last, usage=Usage(7, 100), drawn=drawn)
