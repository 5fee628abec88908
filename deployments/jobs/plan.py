"""From what a caller asks for to a job's plan: texts cut, voices pinned, limits held."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments.config.settings import Settings
from deployments.edits.documents import EditStep, WrittenReading
from deployments.jobs.documents import Cue, JobPlan, JobSegment
from deployments.jobs.store import MOST_PAGE_BYTES, MOST_PLAN_BYTES
from deployments.jobs.webhooks import check_webhook
from deployments.pronunciation.readings import NOTHING_ASKED, AskedReading, Readings
from deployments.speech.seeds import SEED_BITS
from deployments.voices.resolver import VoiceLibrary
from pipeline.contracts import BASE_VARIANT
from pipeline.errors import InputError, TextError, UnknownVoiceError
from pipeline.splitting.segments import spoken_segments
from pipeline.synthesis import NO_TRANSCRIPT
from pipeline.text.ssml.document import without_ssml
from pipeline.wording import about

_LONGEST_CHAR_BYTES = 12  # as JSON in ASCII
_WITH_EDITS = 10  # times max_chars: what edits say is written with every segment of a long text


@dataclass(frozen=True, slots=True)
class Ask:
    """One text in one voice. at: what stands before the names of its fields in refusals."""

    text: str
    voice: str | None = None
    edits: tuple[EditStep, ...] = ()
    seed: int | None = None
    speed: float = 1.0
    pause_s: float = 0.0
    """Behind it."""
    cue: Cue | None = None
    at: str = ""
    text_field: str = "text"

    def field(self, name: str) -> str:
        """How refusals name a field of it."""
        return f"{self.at}{name}"


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What is asked for, checked as far as it shows by itself. whole: the field that holds it."""

    asks: Sequence[Ask]
    whole: str
    response_format: str = "mp3"
    sample_rate_hz: int | None = None
    target_lufs: float | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    variant: str = BASE_VARIANT
    is_marked: bool = True
    webhook: str | None = None
    label: str | None = None
    reading: AskedReading = NOTHING_ASKED


class Planner:
    """Makes plans. Use it from one event loop."""

    def __init__(self, settings: Settings, voices: VoiceLibrary, readings: Readings) -> None:
        self._readings = readings
        self._limits = settings.jobs
        self._max_text_chars = settings.limits.max_text_chars
        self._voices = voices

    async def plan(self, namespace: str, order: JobOrder) -> tuple[JobPlan, list[JobSegment]]:
        """Raises InputError naming the field, what was found and what is allowed."""
        self._check_size(order)
        if order.webhook is not None:
            check_webhook(self._limits, order.webhook)
        pinned: dict[str | None, str] = {}
        for ask in order.asks:
            if ask.voice not in pinned:
                pinned[ask.voice] = await self._pinned(namespace, ask)
        made = await asyncio.to_thread(self._all_segments, order, pinned)
        if len(made) > self._limits.max_segments:
            raise TextError(
                f"{order.whole} has {len(made)} segments, {self._limits.max_segments} are allowed",
                param=order.whole,
            )
        self._check_texts(order, made)
        plan = JobPlan(
            created_unix_s=int(time.time()),
            n_segments=len(made),
            n_chars=sum(len(segment.text) for segment in made),
            seed=secrets.randbits(SEED_BITS) if order.seed is None else order.seed,
            response_format=order.response_format,
            sample_rate_hz=order.sample_rate_hz,
            target_lufs=order.target_lufs,
            temperature=order.temperature,
            top_p=order.top_p,
            top_k=order.top_k,
            variant=order.variant,
            is_marked=order.is_marked,
            webhook=order.webhook,
            label=order.label,
            readings=await self._readings_of(namespace, order.reading, made),
        )
        if len(json.dumps(plan.written())) > MOST_PLAN_BYTES:
            raise InputError(
                "the pronunciations that these texts may need take more than "
                f"{MOST_PLAN_BYTES} bytes together",
                param="pronunciation",
            )
        return plan, made

    async def _readings_of(
        self, namespace: str, asked: AskedReading, segments: Sequence[JobSegment]
    ) -> dict[str, WrittenReading]:
        """How each voice's texts are read from now on, whatever becomes of dictionaries."""
        texts = defaultdict[str, list[str]](list)
        for segment in segments:
            texts[segment.voice] += segment.texts
        found: dict[str, WrittenReading] = {}
        for voice, said in texts.items():
            whole = await self._readings.whole(asked, namespace, voice)
            fitted = await asyncio.to_thread(WrittenReading.fitted, whole, " ".join(said))
            if fitted is not None:
                found[voice] = fitted
        return found

    def _all_segments(self, order: JobOrder, pinned: Mapping[str | None, str]) -> list[JobSegment]:
        """Those of every ask. Blocks: an hour of text takes a while to cut."""
        return [one for ask in order.asks for one in self._segments(ask, pinned[ask.voice])]

    def _check_size(self, order: JobOrder) -> None:
        n_chars = sum(len(ask.text) for ask in order.asks)
        if n_chars > self._limits.max_chars:
            raise TextError(
                f"{order.whole} has {n_chars} characters, {self._limits.max_chars} are allowed",
                param=order.whole,
            )
        if len(order.asks) > self._limits.max_segments:
            raise TextError(
                f"{order.whole} has {len(order.asks)} segments, {self._limits.max_segments} are "
                "allowed",
                param=order.whole,
            )

    def _check_texts(self, order: JobOrder, segments: Sequence[JobSegment]) -> None:
        """A short body may mean a long plan."""
        n_chars = sum(len(text) for segment in segments for text in segment.texts)
        most = _WITH_EDITS * self._limits.max_chars
        if n_chars > most:
            raise TextError(
                f"{order.whole}: with what edits say of each, the segments have {n_chars} "
                f"characters, {most} are allowed",
                param=order.whole,
            )

    async def _pinned(self, namespace: str, ask: Ask) -> str:
        """Exactly this voice, whose words are known. Raises InputError naming the ask's field."""
        registry = self._voices.registry
        try:
            pinned = await registry.pinned(namespace, ask.voice)
        except UnknownVoiceError as error:
            raise UnknownVoiceError(error.message, param=ask.field("voice")) from error
        found = await registry.named(namespace, pinned)
        if not found.transcript:
            raise InputError(NO_TRANSCRIPT, param=ask.field("voice"))
        return pinned

    def _segments(self, ask: Ask, voice: str) -> list[JobSegment]:
        """One, or those of a long text. Of subtitles each is one, whose time is one, too."""
        text = ask.text.strip()
        if not text:
            raise TextError("the text to speak is empty", param=ask.field(ask.text_field))
        shared = {"voice": voice, "edits": ask.edits, "speed": ask.speed}
        if ask.cue is not None:
            self._check_length(ask, text)
            cued = JobSegment(text=text, cue=ask.cue, seed=ask.seed, **shared)
            self._check_page(ask, cued)
            return [cued]
        field = ask.field(ask.text_field)
        found = spoken_segments(about(field, without_ssml, text))
        if not found:
            raise TextError("the text has nothing to speak", param=field)
        made = [
            JobSegment(
                text=one.text,
                seed=ask.seed if len(found) == 1 else None,
                pause_s=one.pause_s if number < len(found) else ask.pause_s,
                **shared,
            )
            for number, one in enumerate(found, 1)
        ]
        for one in made:
            self._check_length(ask, one.text)
            self._check_page(ask, one)
        return made

    def _check_length(self, ask: Ask, text: str) -> None:
        if len(text) > self._max_text_chars:
            raise TextError(
                f"{ask.field(ask.text_field)} has {len(text)} characters in one go, "
                f"{self._max_text_chars} are allowed",
                param=ask.field(ask.text_field),
            )

    def _check_page(self, ask: Ask, segment: JobSegment) -> None:
        """A segment and its edits lie in one document."""
        if _LONGEST_CHAR_BYTES * sum(map(len, segment.texts)) < MOST_PAGE_BYTES // 2:
            return
        n_bytes = len(json.dumps(segment.written()))
        if n_bytes > MOST_PAGE_BYTES:
            field = ask.field("edits" if segment.edits else ask.text_field)
            raise InputError(
                f"{field}: a segment with its edits takes {n_bytes} bytes, {MOST_PAGE_BYTES} are "
                "allowed",
                param=field,
            )
