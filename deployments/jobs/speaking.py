"""One segment, from its plan to a finished part: spoken, edited, made to fit its time.

Asked for as any speech is, and kept under a seed of its own: whoever asks for the same finds it,
and whoever asks while it is made listens in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from cache_store.erasures import Erasures
from cache_store.keys import ClipKey, raw_key
from deployments.access.caller import Caller
from deployments.config.job_settings import JobSettings
from deployments.config.settings import Settings
from deployments.config.stages import Stages
from deployments.edits.documents import EditStep
from deployments.edits.performance import EditOrder, Performance
from deployments.edits.sources import Sources
from deployments.jobs.documents import Cue, JobSegment, PartFacts
from deployments.jobs.flac import to_flac
from deployments.quotas.gate import QuotaGate
from deployments.speech.library import SpeechLibrary
from deployments.telemetry.tracing.tracer import NOT_TRACING, Tracer
from deployments.voices.resolver import VoiceLibrary
from pipeline.audio.encode import to_pcm16
from pipeline.audio.levels import measure_levels
from pipeline.audio.speed import MAX_SPEED, MIN_SPEED, SpeedChanger
from pipeline.contracts import (
    GOOD,
    NO_USAGE,
    OUTPUT_SAMPLE_RATE_HZ,
    Float32Array,
    Mode,
    Quality,
    Usage,
    VoiceReference,
)
from pipeline.errors import StageError, UnknownVoiceError
from pipeline.serving.terms import Terms

FITS_S = 0.05  # that nobody notices
HURRY_ABOVE = 1.12  # times too long: then it is spoken faster before it is played faster
_HURRIED = {"mode": Mode.SPEED, "info": "faster", "text": None, "passes": 1, "reading": None}
DELETED = "the voice was deleted meanwhile"
_SILENCE = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """An answer. samples: float32 (n,), 24 kHz, in steps of 16 bits."""

    samples: Float32Array
    quality: Quality
    usage: Usage
    clip_digest: str

    @property
    def length_s(self) -> float:
        return len(self.samples) / OUTPUT_SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A finished part: its facts, and its FLAC file."""

    facts: PartFacts
    audio: bytes


class SegmentSpeaker:
    """Speaks segments of any job. Use it from one event loop."""

    def __init__(
        self,
        settings: Settings,
        voices: VoiceLibrary,
        speech: SpeechLibrary,
        quotas: QuotaGate | None = None,
        tracer: Tracer = NOT_TRACING,
    ) -> None:
        """quotas: what is spoken is charged to them; None where nobody has any.

        tracer: begins a trace for each segment.
        """
        self._tracer = tracer
        self._quotas = quotas
        self._settings: JobSettings = settings.jobs
        self._sources = Sources(voices, settings.limits)
        self._registry = voices.registry
        self._speech = speech
        self._variants = frozenset(Stages.of(settings).llms)
        self._erasures = Erasures()

    def forget(self, namespace: str, clip_digest: str) -> None:
        """What is being spoken in this voice may not be kept."""
        self._erasures.erase(ClipKey(namespace, clip_digest).owner)

    async def check_voice(self, namespace: str, voice: str) -> None:
        """Raises UnknownVoiceError for one that was deleted, by what the store has now."""
        if not await self._registry.is_there(namespace, voice):
            raise UnknownVoiceError(DELETED, param="voice")

    async def wait_s(self, namespace: str) -> float:
        """Seconds until a tenant's quota lets more be spoken for it, 0 for now."""
        if self._quotas is None:
            return 0.0
        return await self._quotas.spending(Caller(namespace)).audio_wait_s()

    async def make(
        self,
        namespace: str,
        segment: JobSegment,
        number: int,
        steps: Sequence[EditStep],
        *,
        is_marked: bool = True,
    ) -> Part:
        """Raises InputError for what cannot be spoken, StageError when a stage fails.

        steps: with the seed that is to be used. is_marked: as in Terms. Facts are those of
        revision 0.
        """
        with self._tracer.traced("segment", number=number):
            return await self._made(namespace, segment, number, steps, Terms(is_marked=is_marked))

    async def _made(
        self,
        namespace: str,
        segment: JobSegment,
        number: int,
        steps: Sequence[EditStep],
        terms: Terms,
    ) -> Part:
        spoken = await self._spoken(namespace, segment, steps, terms)
        is_hurried = False
        if segment.cue is not None:
            is_late = spoken.length_s / segment.speed > HURRY_ABOVE * _room_s(segment.cue)
            if is_late and all(step.mode is not Mode.SPEED for step in steps):
                hurry = steps[0].model_copy(update=_HURRIED)
                faster = await self._spoken(namespace, segment, (*steps, hurry), terms)
                is_hurried = faster.length_s < spoken.length_s
                spoken = faster if is_hurried else spoken
        stretch = self._stretch(spoken, segment)
        audio, part = await asyncio.to_thread(_finished, spoken, segment.speed, stretch)
        length_s = part.n_samples / OUTPUT_SAMPLE_RATE_HZ
        if self._quotas is not None:
            self._quotas.spending(Caller(namespace)).spoke(length_s)
        over_s = 0.0 if segment.cue is None else max(length_s - _room_s(segment.cue), 0.0)
        facts = part.model_copy(
            update={
                "number": number,
                "seed": steps[0].seed,
                "stretch": stretch,
                "is_hurried": is_hurried,
                "over_s": round(over_s, 3) if over_s > FITS_S else 0.0,
            }
        )
        return Part(facts, audio)

    async def _spoken(
        self, namespace: str, segment: JobSegment, steps: Sequence[EditStep], terms: Terms
    ) -> Spoken:
        watch = self._erasures.begin()
        order = EditOrder(steps=tuple(steps))
        performance = Performance(
            order, namespace, self._sources, self._speech, None, watch, self._variants
        )
        voice = await performance.resolve(VoiceReference(name=segment.voice))
        first = replace(steps[0].request("", steps[0].text or ""), terms=terms)
        pieces, quality, usage = [_SILENCE], GOOD, NO_USAGE
        async with aclosing(performance.speak(first, voice.prompt)) as speech:
            async for chunk in speech:
                pieces.append(chunk.samples)
                quality, usage = chunk.quality, chunk.usage
        if not watch.allows(ClipKey(namespace, voice.clip_digest).owner):
            raise UnknownVoiceError(DELETED, param="voice")
        samples = np.concatenate(pieces)
        if not len(samples):
            raise StageError("the model produced no audio for this segment; try another seed")
        return Spoken(samples, quality, usage, voice.clip_digest)

    def _stretch(self, spoken: Spoken, segment: JobSegment) -> float:
        """How much faster it is to be played, beside its own speed, to fit its time."""
        if segment.cue is None:
            return 1.0
        needed = spoken.length_s / segment.speed / _room_s(segment.cue)
        stretch = min(max(needed, 1.0), self._settings.max_stretch)
        return min(stretch, MAX_SPEED / segment.speed)


def failed_part(number: int, message: str, code: str, param: str | None) -> PartFacts:
    """Facts of a segment that came to nothing."""
    fault = {"code": code, "message": message, "param": param}
    return PartFacts.read({"number": number, "fault": fault})


def _room_s(cue: Cue) -> float:
    return max(cue.end_s - cue.begin_s, 0.1)


def _finished(spoken: Spoken, speed: float, stretch: float) -> tuple[bytes, PartFacts]:
    """The part's file and what is known of it. Blocks."""
    changer = SpeedChanger(min(max(speed * stretch, MIN_SPEED), MAX_SPEED))
    played = np.concatenate([changer.process(spoken.samples), changer.finish()])
    samples = to_pcm16(played)
    audio = to_flac(samples)
    facts = PartFacts(
        number=0,
        audio=raw_key(audio),
        size_bytes=len(audio),
        n_samples=len(samples),
        verdict=spoken.quality.verdict,
        is_retried=spoken.quality.is_retried,
        input_tokens=spoken.usage.input_tokens,
        output_tokens=spoken.usage.output_tokens,
        clip_digest=spoken.clip_digest,
        loudness_lufs=round(measure_levels(played, OUTPUT_SAMPLE_RATE_HZ).loudness_lufs(), 2),
    )
    return audio, facts
