"""The whole chain in one process, for `timbre say` and for trying a checkpoint."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from pipeline.audio.reference import read_reference
from pipeline.audio.speed import SpeedChanger
from pipeline.chain import SpeechChain
from pipeline.contracts import (
    Float32Array,
    ReferenceClip,
    SpeechRequest,
    StageTimes,
    VoicePrompt,
    VoiceReference,
    WaveDecoder,
)
from pipeline.errors import UnknownVoiceError
from pipeline.prompting import CheckpointPrompts
from pipeline.synthesis import ResolvedVoice, Synthesizer, VoiceResolver, synthesize
from pipeline.timing import Timings

if TYPE_CHECKING:
    from pipeline.stepaudio.layout import CheckpointLayout
    from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder

THREADS = 1  # a second one burns 1.6 times the CPU and is no faster: the products are small
PREFIX_CACHE_BYTES = 2**26  # what the engine keeps of voices spoken before
VOICE_STATE_BYTES = 2**27  # and the vocoder


@dataclass(frozen=True, slots=True)
class OneStream:
    """Engine settings for a single stream in this process; see llm.engine.engine."""

    device: str
    threads: int = THREADS
    slots: int = 1
    max_context_tokens: int = 4096
    queue_size: int = 0
    queue_timeout_s: float = 1.0
    prefill_chunk_tokens: int = 512
    chunk_tokens: int = 15
    prefix_cache_bytes: int = PREFIX_CACHE_BYTES
    quantization: str = "none"

    @property
    def dtype(self) -> str:
        return "float32" if self.device == "cpu" else "bfloat16"


class LateEncoder:
    """The voice encoder of a checkpoint, loaded for its first clip: a kept voice needs none."""

    def __init__(self, layout: CheckpointLayout, device: str) -> None:
        self._layout, self._device = layout, device
        self._loaded: StepVoiceEncoder | None = None

    async def fingerprint(self) -> str:
        """Of what it would encode with. Raises CheckpointError when files are missing."""
        from pipeline.stepaudio.tokenizer.voice_encoder import encoder_fingerprint

        layout = self._layout
        return await asyncio.to_thread(encoder_fingerprint, layout.tokenizer, layout.vocoder)

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        """See contracts.VoiceEncoder. Raises CheckpointError, too, when it cannot be loaded."""
        return await (await asyncio.to_thread(self.loaded)).encode(clip)

    def loaded(self) -> StepVoiceEncoder:
        """The encoder itself, from now on in memory."""
        from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder

        if self._loaded is None:
            layout = self._layout
            self._loaded = StepVoiceEncoder(
                layout.tokenizer, layout.vocoder, device=self._device, threads=THREADS
            )
        return self._loaded

    def close(self) -> None:
        """End its threads, if it has any."""
        if self._loaded is not None:
            self._loaded.close()


class DirectVoices:
    """A VoiceResolver without a cache: encodes every clip."""

    def __init__(self, encoder: LateEncoder) -> None:
        self._encoder = encoder

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """Raises AudioError for a clip that cannot be used, UnknownVoiceError for a name."""
        if reference.upload is None:
            raise UnknownVoiceError("no voice is listed here: give a clip", param="voice")
        read = await asyncio.to_thread(read_reference, reference.upload)
        prompt = await self._encoder.encode(read.clip)
        named = replace(prompt, clip_digest=read.clip.digest)
        return ResolvedVoice(named, "miss", read.warnings)


class LocalPipeline:
    """Every stage of one checkpoint; all but the encoder loaded.

    Use it as a context manager; leaving it stops the worker threads.
    """

    voices: DirectVoices
    synthesizer: Synthesizer

    def __init__(self, model: str, device: str = "cpu", *, marks: bool = False) -> None:
        """marks: what it speaks is marked; see pipeline.marks.

        Raises CheckpointError when the checkpoint cannot be used.
        """
        from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
        from pipeline.stepaudio.llm.engine.loading import load_engine
        from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder

        self.layout = layout = CheckpointLayout.at(resolve_model(model))
        self.device = device
        self.encoder = LateEncoder(layout, device)
        self._engine = load_engine(layout, OneStream(device))
        self.decoder = StepWaveDecoder(
            layout.vocoder,
            device=device,
            threads=THREADS,
            prompt_memory_bytes=VOICE_STATE_BYTES,
            marks=marks,
        )
        self.prompts = CheckpointPrompts(layout.editx)
        self.voices = DirectVoices(self.encoder)
        self.synthesizer = self.chain(self.decoder)

    def chain(self, decoder: WaveDecoder) -> SpeechChain:
        """Its language model and `decoder`."""
        return SpeechChain(self.prompts, self._engine, decoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.close()
        self.decoder.close()
        self.encoder.close()


async def spoken(
    reference: VoiceReference,
    request: SpeechRequest,
    voices: VoiceResolver,
    synthesizer: Synthesizer,
) -> tuple[Float32Array, StageTimes]:
    """A whole reply: float32 (n,) at 24 kHz at the request's speed, and what it took."""
    timings = Timings()
    speed = SpeedChanger(request.speed)
    pieces = [
        speed.process(chunk.samples)
        async for chunk in synthesize(reference, request, voices, synthesizer, timings)
    ]
    return np.concatenate([*pieces, speed.finish()]), timings.times()


async def _say(
    pipeline: LocalPipeline, upload: bytes, request: SpeechRequest
) -> tuple[Float32Array, StageTimes]:
    return await spoken(VoiceReference(upload), request, pipeline.voices, pipeline.synthesizer)
