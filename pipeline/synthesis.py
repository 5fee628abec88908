"""The main path: a clip and a text become speech, on Protocols alone.

Knows no model, Ray or HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.contracts import SpeechChunk, SpeechRequest, Stream, VoicePrompt, VoiceReference
from pipeline.edit_values import SAME_WORDS
from pipeline.timing import Timings

SPEAKER_DIGITS = 16  # hex digits of the clip's digest in a speaker name


@dataclass(frozen=True, slots=True)
class ResolvedVoice:
    """A voice ready to speak.

    prompt: what the stages need of the clip. clip_digest: names the clip. tier: what answered (l1,
    l2, l3, miss). warnings: what is wrong with the upload, each in a word. transcript: what a
    listed voice's clip says; None where the caller sent the clip.
    """

    prompt: VoicePrompt
    clip_digest: str
    tier: str
    warnings: tuple[str, ...] = ()
    transcript: str | None = None

    def completed(self, request: SpeechRequest) -> SpeechRequest:
        """The request with what only the voice knows: its name, and a listed clip's words."""
        named = replace(request, speaker_name=speaker_name(self.clip_digest))
        if self.transcript is None:
            return named
        text = self.transcript if request.mode in SAME_WORDS else request.text
        return replace(named, transcript=self.transcript, text=text)


class VoiceResolver(Protocol):
    """Finds or makes the voice prompt of an uploaded clip or a listed voice."""

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """Raises AudioError for an unusable clip, StageError when no encoder could be reached.

        And UnknownVoiceError for a name that is not listed.
        """
        ...


class Synthesizer(Protocol):
    """LLM and vocoder chained: speaks a request in a voice."""

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
    """Speak `request` in the voice that is meant; `watch` keeps the account.

    Nothing outlives the generator: closing it closes every stage. Errors pass through as they are.
    """
    voice = await voices.resolve(reference)
    del reference  # a stream may last minutes; what it needs of the clip is in the voice
    timings.voice_resolved(voice.tier, voice.warnings)
    async with aclosing(synthesizer.speak(voice.completed(request), voice.prompt)) as speech:
        async for chunk in speech:
            timings.audio_made(chunk)
            yield chunk


def speaker_name(clip_digest: str) -> str:
    """What the stages call the voice of a clip."""
    return f"clone_{clip_digest[:SPEAKER_DIGITS]}"
