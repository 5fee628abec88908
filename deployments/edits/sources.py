"""What a chain begins with: a voice, audio of any length, or a step of an earlier chain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from deployments.config.settings import Limits
from deployments.edits.documents import Edit, EditSource
from deployments.voices.resolver import VoiceLibrary
from pipeline.audio.condition import Conditioning
from pipeline.audio.decode import decode_clip
from pipeline.audio.encode import to_pcm16, wav_header
from pipeline.contracts import Float32Array, VoiceReference
from pipeline.errors import ClipDurationError, InputError, UnknownEditError, UnknownVoiceError
from pipeline.splitting.clip import ClipPart, split_clip
from pipeline.synthesis import ResolvedVoice, VoiceResolver


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One clip, or a part of one."""

    voice: ResolvedVoice
    words: str
    """What is said in it; empty where nobody told."""

    @property
    def written(self) -> EditSource:
        """As an edit's document has it."""
        return EditSource(
            clip_digest=self.voice.clip_digest,
            encoder=self.voice.prompt.fingerprint,
            transcript=self.words,
        )


class Sources:
    """Finds them. Use it from one event loop. Raises as VoiceLibrary does."""

    def __init__(self, voices: VoiceLibrary, limits: Limits) -> None:
        self._voices = voices
        self._limits = limits

    async def of_voice(
        self, namespace: str, name: str | None, words: str, *, needs_words: bool
    ) -> tuple[str, Source]:
        """A named voice, and the name of exactly this one.

        words: of its clip, where the voice was uploaded without them.
        """
        pinned = await self._voices.registry.pinned(namespace, name)
        voices = self._for(words, needs_words=needs_words)
        found = await voices.resolve(VoiceReference(name=pinned, namespace=namespace))
        return pinned, Source(found, found.transcript or words)

    async def of_upload(
        self, namespace: str, upload: bytes, words: str, *, needs_words: bool
    ) -> Sequence[Source]:
        """A clip, in parts where it is longer than the model takes.

        Raises InputError for one whose words are needed, and cannot be told apart at its pauses.
        """
        voices = self._for(words, needs_words=needs_words)
        try:
            found = await voices.resolve(VoiceReference(upload, namespace=namespace))
        except ClipDurationError as error:
            is_told = bool(words) or voices is self._voices  # else each part is heard by itself
            how = (words, needs_words and is_told, error)
            parts, rate_hz = await asyncio.to_thread(self._split, upload, *how)
        else:
            return [Source(found, found.transcript or words)]
        files = [_wav(part.samples, rate_hz) for part in parts]
        resolved = await asyncio.gather(
            *(voices.resolve(VoiceReference(one, namespace=namespace)) for one in files)
        )
        return [
            Source(voice, voice.transcript or part.transcript)
            for voice, part in zip(resolved, parts, strict=True)
        ]

    def _for(self, words: str, *, needs_words: bool) -> VoiceResolver:
        """Voices for an order of these words, which a recogniser tells where they are missing."""
        return self._voices.hearing("transcript") if needs_words and not words else self._voices

    async def recalled(self, namespace: str, edit: Edit) -> Sequence[Source]:
        """Those of an earlier edit. Raises UnknownEditError when they are not to be had."""
        return [await self._recalled(namespace, edit, source) for source in edit.sources]

    async def _recalled(self, namespace: str, edit: Edit, source: EditSource) -> Source:
        found: ResolvedVoice | None = None
        if edit.voice is not None:
            try:
                reference = VoiceReference(name=edit.voice, namespace=namespace)
                found = await self._voices.resolve(reference)
            except UnknownVoiceError as error:
                raise UnknownEditError("the voice of this edit was deleted") from error
        if found is None or not _is_same(found, source):
            found = await self._voices.recall(namespace, source.clip_digest, source.encoder)
        if found is None:
            raise UnknownEditError(
                "the audio that this edit was made from is no longer kept: send it again"
            )
        return Source(found, source.transcript)

    def _split(
        self, upload: bytes, words: str, needs_words: bool, refusal: ClipDurationError
    ) -> tuple[list[ClipPart], int]:
        """Parts and their rate. refusal: of the whole, which may be too short as well. Blocks."""
        limits = self._voices.clip_limits
        longer = replace(limits, max_duration_s=self._limits.max_edit_clip_s)
        picks = self._voices.conditioning is Conditioning.SPEECH
        clip = decode_clip(upload, longer, picks_channels=picks)
        if clip.duration_s <= limits.max_duration_s:
            raise refusal
        cut = partial(split_clip, clip.samples, clip.sample_rate_hz, limit_s=limits.max_duration_s)
        try:
            return cut(words), clip.sample_rate_hz
        except ClipDurationError:
            raise  # of the audio itself
        except InputError as error:
            if needs_words:
                raise error.about("transcript") from error
        return cut(""), clip.sample_rate_hz


def _is_same(voice: ResolvedVoice, source: EditSource) -> bool:
    return (voice.clip_digest, voice.prompt.fingerprint) == (source.clip_digest, source.encoder)


def _wav(samples: Float32Array, sample_rate_hz: int) -> bytes:
    return wav_header(sample_rate_hz, n_samples=len(samples)) + to_pcm16(samples).tobytes()
