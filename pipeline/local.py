"""The whole chain in one process, for `timbre say` and for trying a checkpoint."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from pipeline.audio.encode import encode_file, file_format
from pipeline.audio.reference import read_reference
from pipeline.audio.speed import SpeedChanger
from pipeline.chain import SpeechChain
from pipeline.contracts import (
    Float32Array,
    SpeechRequest,
    StageTimes,
    VoiceEncoder,
    VoiceReference,
)
from pipeline.errors import InputError, UnknownVoiceError
from pipeline.prompting import CheckpointPrompts
from pipeline.synthesis import ResolvedVoice, Synthesizer, synthesize
from pipeline.timing import Timings

THREADS = 2


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
    prefix_cache_bytes: int = 0
    quantization: str = "none"

    @property
    def dtype(self) -> str:
        return "float32" if self.device == "cpu" else "bfloat16"


class DirectVoices:
    """A VoiceResolver without a cache: encodes every clip."""

    def __init__(self, encoder: VoiceEncoder) -> None:
        self._encoder = encoder

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """Raises AudioError for a clip that cannot be used, UnknownVoiceError for a name."""
        if reference.upload is None:
            raise UnknownVoiceError("no voice is listed here: give a clip", param="voice")
        read = await asyncio.to_thread(read_reference, reference.upload)
        prompt = await self._encoder.encode(read.clip)
        return ResolvedVoice(prompt, read.clip.digest, "miss", read.warnings)


class LocalPipeline:
    """Every stage of one checkpoint, loaded.

    Use it as a context manager; leaving it stops the worker threads.
    """

    voices: DirectVoices
    synthesizer: Synthesizer

    def __init__(self, model: str, device: str = "cpu") -> None:
        """Raises CheckpointError when the checkpoint cannot be used."""
        from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
        from pipeline.stepaudio.llm.engine.loading import load_engine
        from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
        from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder

        layout = CheckpointLayout.at(resolve_model(model))
        self._encoder = StepVoiceEncoder(
            layout.tokenizer, layout.vocoder, device=device, threads=THREADS
        )
        self._engine = load_engine(layout, OneStream(device))
        self._decoder = StepWaveDecoder(layout.vocoder, device=device, threads=THREADS)
        self.voices = DirectVoices(self._encoder)
        self.synthesizer = SpeechChain(CheckpointPrompts(layout.editx), self._engine, self._decoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.close()
        self._decoder.close()
        self._encoder.close()


def say_to_file(
    pipeline: LocalPipeline, clip: Path, request: SpeechRequest, output: Path
) -> StageTimes:
    """Speak `request` in the voice of `clip` into `output`, whose suffix names the format.

    Raises InputError for a clip that cannot be read, and UnsupportedError for a suffix before
    anything is computed.
    """
    file_format(output)
    try:
        upload = clip.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the clip {clip}: {error.strerror}") from error
    samples, times = asyncio.run(_say(pipeline, upload, request))
    encode_file(samples, output)
    return times


async def _say(
    pipeline: LocalPipeline, upload: bytes, request: SpeechRequest
) -> tuple[Float32Array, StageTimes]:
    timings = Timings()
    speed = SpeedChanger(request.speed)
    reference = VoiceReference(upload)
    pieces = [
        speed.process(chunk.samples)
        async for chunk in synthesize(
            reference, request, pipeline.voices, pipeline.synthesizer, timings
        )
    ]
    return np.concatenate([*pieces, speed.finish()]), timings.times()
