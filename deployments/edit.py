"""`timbre edit`: a chain of edits in this process, with the stores of the service.

A step that was made here or served before is found; an edit is written down where the service
finds it, and goes on from one that the service wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from deployments.config.settings import Settings
from deployments.edits.library import EditLibrary
from deployments.http.dialects.edits import ParsedEdit
from deployments.pronunciation.readings import readings_of
from deployments.say import KeptStates, without_cluster
from deployments.speech.library import SpeechLibrary
from deployments.voices.resolver import VoiceLibrary
from pipeline.audio.encode import encode_file, file_format
from pipeline.contracts import (
    BASE_VARIANT,
    Float32Array,
    SpeechChunk,
    SpeechRequest,
    VocoderName,
    VoicePrompt,
)
from pipeline.errors import UnsupportedError
from pipeline.local import LocalPipeline, OneStream, spoken
from pipeline.synthesis import Synthesizer


@dataclass(frozen=True, slots=True)
class Edited:
    """What came of a chain.

    quality: the guard's verdict on all steps. edit_id: None where it was not written down.
    answered_by: what answered each step.
    """

    audio_s: float
    quality: str
    edit_id: str | None
    answered_by: tuple[str, ...]


class LocalNames:
    """The models of a LocalPipeline, as deployments.speech.models.Namer.

    The names are its own: a service draws the same tokens and cuts its sound otherwise.
    """

    def __init__(self, pipeline: LocalPipeline, *, is_marked: bool) -> None:
        """Reads the checkpoint's files, or what is known of them."""
        from pipeline.marks.marker import VERSION
        from pipeline.stepaudio.fingerprints import lm_fingerprint, vocoder_fingerprint
        from pipeline.stepaudio.vocoder.schedule import CHUNK_ROWS

        stream = OneStream(pipeline.device)
        how = {"device": stream.device, "dtype": stream.dtype, "quantization": stream.quantization}
        self._lm = lm_fingerprint(pipeline.layout, how)
        sound = {"device": stream.device, "chunk_rows": CHUNK_ROWS, "in_process": True}
        marked = {"mark": VERSION} if is_marked else {}
        print_ = vocoder_fingerprint(pipeline.layout, {**sound, **marked})
        self._vocoder = VocoderName(print_, pipeline.prompts.front_end)

    @property
    def both(self) -> frozenset[str]:
        """As answers are signed."""
        return frozenset({self._lm, self._vocoder.fingerprint})

    async def vocoder(self) -> VocoderName:
        """See Namer."""
        return self._vocoder

    async def lm(self, variant: str) -> str:
        """See Namer. Raises UnsupportedError: there is one here."""
        if variant != BASE_VARIANT:
            raise UnsupportedError(f"the variant {variant} of the model speaks in a service alone")
        return self._lm


class Signed:
    """A Synthesizer whose answers say what made them, as those of the stages do."""

    def __init__(self, synthesizer: Synthesizer, made_by: frozenset[str]) -> None:
        self._synthesizer, self._made_by = synthesizer, made_by

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """See synthesis.Synthesizer."""
        async with aclosing(self._synthesizer.speak(request, voice)) as chunks:
            async for chunk in chunks:
                drawn = chunk.drawn and replace(chunk.drawn, made_by=self._made_by)
                yield replace(chunk, drawn=drawn)


def edit_to_file(
    pipeline: LocalPipeline, settings: Settings, asked: ParsedEdit, output: Path
) -> Edited:
    """Make a chain's last step into `output`, whose suffix names the format.

    settings: of the service whose stores they are. Raises as the service answers.
    """
    file_format(output)
    samples, edited = asyncio.run(_edited(pipeline, without_cluster(settings), asked))
    encode_file(samples, output)
    return edited


async def _edited(
    pipeline: LocalPipeline, settings: Settings, asked: ParsedEdit
) -> tuple[Float32Array, Edited]:
    names = await asyncio.to_thread(LocalNames, pipeline, is_marked=settings.marks.enabled)
    voices = VoiceLibrary(settings, pipeline.encoder)
    states = KeptStates(pipeline, settings.cache)
    speech = SpeechLibrary(settings, Signed(states, names.both), names)
    edits, reply = EditLibrary(settings, voices, speech), asked.reply
    await asyncio.gather(voices.start(), speech.start())
    try:
        order = await edits.read_as(
            asked.order,
            voices.namespace,
            reply.voice,
            readings_of(settings, voices),
            reply.reading,
            is_clip=reply.upload is not None,
        )
        chain = edits.perform(order, voices.namespace)
        samples, times = await spoken(reply.reference, reply.request, chain, chain)
    finally:
        await asyncio.gather(speech.close(), voices.close())
        await states.close()
    quality, answered_by = str(chain.account.quality), tuple(chain.answered_by)
    return samples, Edited(times.audio_s, quality, chain.edit_id, answered_by)
