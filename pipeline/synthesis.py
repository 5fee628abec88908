"""The main path: a clip and a text become speech. Uses the stages through Protocols only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.contracts import (
    NOT_REUSED,
    SpeechChunk,
    SpeechRequest,
    Stream,
    VoicePrompt,
    VoiceReference,
)
from pipeline.edit_values import SAME_WORDS
from pipeline.errors import InputError
from pipeline.serving.tracing import here, now_ns
from pipeline.timing import Timings

NO_TRANSCRIPT = (
    "this voice was uploaded without its transcript: say what is spoken in its clip, in ref_text "
    "or step_audio.prompt_text, or once and for all with POST /v1/audio/voices/{id} and ref_text"
)


@dataclass(frozen=True, slots=True)
class ResolvedVoice:
    """A voice ready to speak."""

    prompt: VoicePrompt
    """What the stages need of the clip."""
    tier: str
    """What answered: l1, l2, l3 or miss."""
    warnings: tuple[str, ...] = ()
    """Faults of the upload that do not prevent its use, each one word."""
    transcript: str | None = None
    """The words of a listed voice's clip; None when the caller sent the clip."""

    @property
    def clip_digest(self) -> str:
        """Hex digest of the clip."""
        return self.prompt.clip_digest

    def completed(self, request: SpeechRequest) -> SpeechRequest:
        """The request with the words of a named voice's clip.

        Raises InputError where nobody knows these.
        """
        if self.transcript is None:
            if not request.transcript:
                raise InputError(NO_TRANSCRIPT, param="prompt_text")
            return request
        text = self.transcript if request.mode in SAME_WORDS else request.text
        return replace(request, transcript=self.transcript, text=text)


class VoiceResolver(Protocol):
    """Finds or computes the voice prompt of an uploaded clip or a listed voice."""

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """Raises AudioError for an unusable clip, StageError when no encoder could be reached.

        And UnknownVoiceError for a name that is not listed.
        """
        ...


class Synthesizer(Protocol):
    """Speaks a request in a voice: LLM and vocoder, chained."""

    def speak(self, request: SpeechRequest, voice: VoicePrompt) -> Stream[SpeechChunk]:
        """Chunks in order, the final one has `last`. Closing it frees every stage's state."""
        ...


async def synthesize(
    reference: VoiceReference,
    request: SpeechRequest,
    voices: VoiceResolver,
    synthesizer: Synthesizer,
    timings: Timings,
) -> AsyncGenerator[SpeechChunk]:
    """Speak `request` in the referenced voice; `timings` records the times.

    Nothing outlives the generator: closing it closes every stage. Errors pass through unchanged.
    """
    with here().span("voice") as span:
        voice = await voices.resolve(reference)
        span.told(tier=voice.tier)
    del reference  # frees the upload: a stream may last minutes and needs the voice only
    timings.voice_resolved(voice.tier, voice.warnings)
    began_ns, source = now_ns(), NOT_REUSED
    async with aclosing(synthesizer.speak(voice.completed(request), voice.prompt)) as speech:
        async for chunk in speech:
            timings.audio_made(chunk)
            source = chunk.times.speech
            yield chunk
    if source != NOT_REUSED:  # of what is made for it, the stages have spans of their own
        here().noted("kept speech", began_ns, source=source)
