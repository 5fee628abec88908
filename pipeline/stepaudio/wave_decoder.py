# pyright: basic
"""The vocoder as a stage: audio tokens in, 24 kHz audio out, whole or streamed.

Knows no request, Ray or cache. All model work runs on one worker thread per decoder; a stream's
state lives in its generator's frame alone. What many streams may share is in `prompt_memory`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import AudioChunk, Float32Array, TokenChunk, VoicePrompt
from pipeline.errors import AudioError, CheckpointError, ConfigError, StageError
from pipeline.stepaudio import tokens as audio_tokens
from pipeline.stepaudio.config import MEL_PER_ROW, MEL_RATE_HZ, OUTPUT_RATE_HZ, VocoderConfig
from pipeline.stepaudio.decode_worker import DecodeWorker, Job
from pipeline.stepaudio.flow import DEFAULT_SEED, DEFAULT_STEPS, Flow, FlowCache, stretch_mel
from pipeline.stepaudio.flow_batch import (
    StreamChunk,
    WholeUtterance,
    inference_batch,
    inference_chunks,
)
from pipeline.stepaudio.hift import Hift, source_noise
from pipeline.stepaudio.hift_stream import HiftState, decode_chunk
from pipeline.stepaudio.prompt_memory import PromptMemory, voice_key
from pipeline.stepaudio.weights import load_strict, read_torch

CHUNK_ROWS = (15, 24, 48)  # 0.6, 0.96, then 1.92 s each
RECENT_FRAMES = 96  # the estimator sees the prompt and the last 1.92 s before a chunk
MIN_FIRST_ROWS = 5  # HiFT holds four rows back: a smaller first chunk would make no sound
SILENCE = np.zeros(0, np.float32)


class StepWaveDecoder:
    """Implements `contracts.WaveDecoder` with flow and HiFT.

    vocoder_dir: holds cosyvoice.yaml, flow.pt and hift.pt.
    threads: of torch on the worker; None leaves them as they are.
    chunk_rows: rows of the first chunks; the last entry repeats.
    steps: Euler steps.
    seed: of flow and source noise, the same for every request: equal tokens and voice give equal
    bytes.
    recent_frames: how far back the estimator looks beyond the prompt; None keeps everything, and
    memory grows with the utterance.
    max_batch: chunks of different streams computed together, at most. Above 1 a stream's last bits
    depend on what runs beside it; 1 keeps the same request the same bytes.
    prompt_memory_bytes: what may be kept of voices between streams; 0 keeps nothing.
    Raises CheckpointError for files that do not fit, ConfigError for impossible settings.
    """

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        vocoder_dir: Path,
        device: str | torch.device = "cpu",
        *,
        threads: int | None = None,
        chunk_rows: Sequence[int] = CHUNK_ROWS,
        steps: int = DEFAULT_STEPS,
        seed: int = DEFAULT_SEED,
        recent_frames: int | None = RECENT_FRAMES,
        max_batch: int = 1,
        prompt_memory_bytes: int = 0,
    ) -> None:
        if not chunk_rows or min(chunk_rows) < 1 or steps < 1 or (threads or 1) < 1:
            raise ConfigError(
                f"chunk_rows {list(chunk_rows)}, steps {steps} and threads {threads} "
                "must all be positive"
            )
        if recent_frames is not None and recent_frames < 0:
            raise ConfigError(f"recent_frames is {recent_frames}, must not be negative")
        if max_batch < 1 or prompt_memory_bytes < 0:
            raise ConfigError(
                f"max_batch is {max_batch}, must be positive; prompt_memory_bytes is "
                f"{prompt_memory_bytes}, must not be negative"
            )
        self._model = _Model.load(Path(vocoder_dir), torch.device(device), steps, seed)
        self._memory = PromptMemory(prompt_memory_bytes)
        self._chunk_rows = tuple(chunk_rows)
        self._recent_frames = recent_frames
        self._active = 0  # changes on the event loop only
        self._worker = DecodeWorker[Float32Array](
            _next_chunks, max_batch, partial(_set_threads, threads)
        )

    @property
    def active_streams(self) -> int:
        """Streams that hold state now."""
        return self._active

    def close(self) -> None:
        """Stop the worker once its current job is done; what waits is dropped."""
        self._worker.close()

    def decode(self, ids: NDArray[np.integer], voice: VoicePrompt) -> Float32Array:
        """A whole utterance at once: audio tokens (5k,) → float32 (k * 2880,).

        Blocks: call it off the event loop.
        Raises StageError for broken tokens or a failing model, AudioError for an unusable voice.
        """
        return self.decode_batch([(ids, voice)])[0]

    def decode_batch(
        self, utterances: Sequence[tuple[NDArray[np.integer], VoicePrompt]]
    ) -> list[Float32Array]:
        """Whole utterances of any lengths at once; see `decode`.

        Equal to one at a time within rounding.
        """
        audio: list[Float32Array] = []

        def work() -> Float32Array:
            audio.extend(self._model.decode(utterances))
            return SILENCE

        self._worker.submit(Job(partial(_guarded, work))).result()
        return audio

    async def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        """Audio as soon as its tokens are there; see `contracts.WaveDecoder`.

        A chunk is cut when its rows and the lookahead after it are there, whether or not more
        follow: borders depend on token counts and `first_chunk_rows` alone. Errors of `tokens` pass
        through. Ends with `tokens` closed and no state left.
        Raises StageError for broken tokens or a failing model, AudioError for an unusable voice.
        """
        self._active += 1
        try:
            schedule = chunk_schedule(self._chunk_rows, first_chunk_rows)
            utterance = _Utterance(self._model, voice, schedule, self._recent_frames, self._memory)
            async for chunk in tokens:
                utterance.add(chunk.ids)
                while (work := utterance.next_work()) is not None:
                    samples = await self._run(work, utterance.stopped)
                    if len(samples):
                        yield AudioChunk(samples, last=False)
                if chunk.last:
                    yield AudioChunk(
                        await self._run(Job(utterance.finish), utterance.stopped), last=True
                    )
                    return
            raise StageError("the token stream ended without a last chunk")
        finally:
            self._active -= 1
            close = getattr(tokens, "aclose", None)
            if close is not None:
                await close()

    async def _run(self, work: Job[Float32Array], stopped: threading.Event) -> Float32Array:
        """`work` on the worker thread.

        When the caller goes away, waits for the worker to let go of the state.
        """
        job = self._worker.submit(Job(partial(_guarded, work.run), work.kind, work.member))
        try:
            return await asyncio.wrap_future(job)
        finally:
            if not job.done():
                stopped.set()
                job.cancel()
                await _settled(job)


def chunk_schedule(chunk_rows: tuple[int, ...], first_rows: int | None) -> tuple[int, ...]:
    """`chunk_rows` with another first chunk.

    A smaller one is followed by chunks that double until they reach the schedule: each is computed
    while the one before it plays.
    """
    if first_rows is None:
        return chunk_rows
    first = max(first_rows, MIN_FIRST_ROWS)
    if first >= chunk_rows[0]:
        return (first, *(chunk_rows[1:] or chunk_rows))
    ramp = [first]
    while ramp[-1] * 2 < chunk_rows[0]:
        ramp.append(ramp[-1] * 2)
    return (*ramp, *chunk_rows)


def _set_threads(threads: int | None) -> None:
    """Runs on the worker itself: OpenMP keeps its thread count per thread."""
    if threads is not None:
        torch.set_num_threads(threads)


async def _settled(job: Future[Float32Array]) -> None:
    waiter = asyncio.wrap_future(job)
    await asyncio.wait((waiter,))
    if not waiter.cancelled():
        waiter.exception()  # nobody waits for the result any more


_Result = TypeVar("_Result")


def _guarded(work: Callable[[], _Result]) -> _Result:
    """Run `work` without gradients; torch's own failures become StageError."""
    try:
        with torch.inference_mode():
            return work()
    except RuntimeError as error:  # torch raises nothing more specific, out of memory included
        reason = str(error).strip().partition("\n")[0]
        raise StageError(f"the vocoder failed: {reason}") from error


class _StoppedError(Exception):
    """The stream's consumer is gone; unwinds the worker between two Euler steps."""


@dataclass(frozen=True, slots=True, eq=False)
class _Speaker:
    """A voice prompt on the device.

    rows: int64 [1, P, 2]; mel: [1, P * frames_per_row, M]; embedding: [1, 192].
    """

    rows: Tensor
    mel: Tensor
    embedding: Tensor


class _Model:
    """The loaded modules and what follows from weights and settings alone.

    Never changes after loading.
    """

    def __init__(self, flow: Flow, hift: Hift, device: torch.device, steps: int, seed: int) -> None:
        self.flow, self.hift = flow, hift
        self.device, self.seed = device, seed
        with torch.inference_mode():
            self.schedule = flow.schedule(steps)

    @classmethod
    def load(cls, vocoder_dir: Path, device: torch.device, steps: int, seed: int) -> _Model:
        config = VocoderConfig.load(vocoder_dir)
        _check_rates(config)
        flow = Flow(config, seed)
        hift = Hift(config.hift, config.f0_predictor)
        for module, name in ((flow, "flow.pt"), (hift, "hift.pt")):
            load_strict(module, read_torch(vocoder_dir / name), str(vocoder_dir / name))
            module.to(device).eval().requires_grad_(False)
        hift.fuse_weight_norm()
        return cls(flow, hift, device, steps, seed)

    def speaker(self, voice: VoicePrompt) -> _Speaker:
        """Raises AudioError when prompt mel or embedding do not fit the model."""
        mel, embedding = np.asarray(voice.prompt_mel), np.asarray(voice.speaker_embedding)
        width = self.flow.spk_embed_affine_layer.in_features
        if mel.shape != (len(mel), self.flow.n_mels) or embedding.shape != (width,):
            raise AudioError(
                f"voice prompt has mel {mel.shape} and embedding {embedding.shape}, "
                f"expected (frames, {self.flow.n_mels}) and ({width},)"
            )
        rows = self.rows(audio_tokens.interleave(voice.vq02, voice.vq06))
        n_frames = rows.shape[1] * self.flow.frames_per_row
        if n_frames and not len(mel):
            raise AudioError("voice prompt has tokens but no mel frames")
        mel = torch.tensor(mel, dtype=torch.float32, device=self.device)[None]
        mel = stretch_mel(mel, n_frames) if n_frames else mel[:, :0]
        return _Speaker(
            rows, mel, torch.tensor(embedding, dtype=torch.float32, device=self.device)[None]
        )

    def rows(self, ids: NDArray[np.integer]) -> Tensor:
        """Audio tokens (5k,) → int64 [1, 3k, 2].

        Raises StageError when they are not whole, well-formed groups.
        """
        try:
            audio_tokens.deinterleave(ids)
        except ValueError as error:
            raise StageError(f"the language model's tokens are broken: {error}") from error
        return torch.from_numpy(audio_tokens.to_rows(ids))[None].to(self.device)

    def decode(
        self, utterances: Sequence[tuple[NDArray[np.integer], VoicePrompt]]
    ) -> list[Float32Array]:
        """The flow takes all utterances at once, HiFT one by one.

        HiFT looks both ways in time: padding would be heard.
        """
        inputs = [(self.rows(ids), self.speaker(voice)) for ids, voice in utterances]
        spoken = [
            WholeUtterance(rows, speaker.rows, speaker.mel, speaker.embedding)
            for rows, speaker in inputs
            if rows.shape[1]
        ]
        mels = iter(inference_batch(self.flow, spoken, self.schedule) if spoken else ())
        return [self._wave(next(mels)) if rows.shape[1] else SILENCE for rows, _ in inputs]

    def _wave(self, mel: Tensor) -> Float32Array:
        source = self.hift.m_source
        noise = source_noise(self.seed, 0, mel.shape[2], source.samples_per_frame, source.n_sines)
        return _to_audio(self.hift(mel, noise.to(self.device)))


class _Utterance:
    """One stream's state: rows that wait, caches of flow and HiFT.

    Methods that compute run on the worker.
    """

    def __init__(
        self,
        model: _Model,
        voice: VoicePrompt,
        chunk_rows: tuple[int, ...],
        recent_frames: int | None,
        memory: PromptMemory,
    ) -> None:
        self.stopped = threading.Event()
        self._model = model
        self._memory = memory
        self._voice_key = voice_key(voice)
        self._speaker = memory.get_or_make(self._voice_key, lambda: model.speaker(voice))
        self._chunk_rows = list(chunk_rows)
        self._recent_frames = recent_frames
        self._waiting = self._speaker.rows[:, :0]
        self._is_prepared = False
        self._flow_cache: FlowCache | None = None
        self._hift_state: HiftState | None = None

    def add(self, ids: NDArray[np.integer]) -> None:
        """Queue audio tokens of whole groups."""
        self._waiting = torch.cat((self._waiting, self._model.rows(ids)), dim=1)

    def next_work(self) -> Job[Float32Array] | None:
        """What can be computed with the rows that wait, or None when more are needed."""
        n_waiting, n_ahead = self._waiting.shape[1], self._model.flow.lookahead_rows
        if not self._is_prepared and n_waiting >= n_ahead:
            return Job(self._prepare)
        if n_waiting >= self._chunk_rows[0] + n_ahead:
            kind = None if self._flow_cache is None else self._chunk_rows[0]
            return Job(self._next_chunk, kind, self)
        return None

    def finish(self) -> Float32Array:
        """Everything that is left; empty when no token ever came."""
        if not self._waiting.shape[1]:
            return SILENCE
        if not self._is_prepared:
            self._prepare()
        return self._decode(self._waiting, None)

    def _prepare(self) -> Float32Array:
        """Run the prompt through the flow; makes no sound.

        A voice without whole token groups has nothing to run.
        """
        speaker, flow = self._speaker, self._model.flow
        if speaker.rows.shape[1]:
            ahead = self._waiting[:, : flow.lookahead_rows]
            self._flow_cache = self._memory.get_or_make(
                (self._voice_key, ahead.cpu().numpy().tobytes()),
                lambda: flow.setup_cache(
                    speaker.rows,
                    ahead,
                    speaker.mel,
                    speaker.embedding,
                    self._model.schedule,
                    self._on_step,
                ),
            )
        self._is_prepared = True
        return SILENCE

    def _next_chunk(self) -> Float32Array:
        return self._decode(*self._cut())

    def _cut(self) -> tuple[Tensor, Tensor]:
        """The next chunk's rows, which wait no longer, and those ahead of it, which do."""
        n_rows = self._chunk_rows.pop(0) if len(self._chunk_rows) > 1 else self._chunk_rows[0]
        rows, self._waiting = self._waiting[:, :n_rows], self._waiting[:, n_rows:]
        return rows, self._waiting[:, : self._model.flow.lookahead_rows]

    @staticmethod
    def next_chunks(utterances: Sequence[_Utterance]) -> list[Float32Array]:
        """`_next_chunk` of several streams that are past their prompts and at equal sizes.

        Work on a stream whose consumer left goes on until every consumer has.
        """
        first = utterances[0]
        chunks = [u._chunk() for u in utterances]

        def on_step() -> None:
            if all(u.stopped.is_set() for u in utterances):
                raise _StoppedError

        results = inference_chunks(
            first._model.flow, chunks, first._model.schedule, first._recent_frames, on_step
        )
        return [
            u._emit(mel, cache, last=False)
            for u, (mel, cache) in zip(utterances, results, strict=True)
        ]

    def _chunk(self) -> StreamChunk:
        assert self._flow_cache is not None, "streams share a batch only after their prompts"
        return StreamChunk(*self._cut(), self._speaker.embedding, self._flow_cache)

    def _decode(self, rows: Tensor, ahead: Tensor | None) -> Float32Array:
        model = self._model
        mel, cache = model.flow.inference_chunk(
            rows,
            ahead,
            self._speaker.embedding,
            self._flow_cache,
            model.schedule,
            self._recent_frames,
            self._on_step,
        )
        self._on_step()
        return self._emit(mel, cache, last=ahead is None)

    def _emit(self, mel: Tensor, cache: FlowCache, *, last: bool) -> Float32Array:
        """The chunk's mel as sound; keeps what the next chunk needs."""
        self._flow_cache = cache
        state = self._hift_state or HiftState.start(mel)
        samples, self._hift_state = decode_chunk(
            self._model.hift, mel, state, self._model.seed, last=last
        )
        return _to_audio(samples)

    def _on_step(self) -> None:
        if self.stopped.is_set():
            raise _StoppedError


def _next_chunks(members: Sequence[object]) -> list[Float32Array]:
    utterances = cast("Sequence[_Utterance]", members)
    return _guarded(lambda: _Utterance.next_chunks(utterances))


def _to_audio(samples: Tensor) -> Float32Array:
    """[1, L] on any device → float32 (L,), |x| ≤ 1."""
    return samples[0].clamp(-1, 1).cpu().numpy()


def _check_rates(config: VocoderConfig) -> None:
    """Raises CheckpointError unless rows, frames and samples make the rate that clients get."""
    hop = config.hift.samples_per_frame
    actual = (config.encoder.up_stride, config.hift.sampling_rate, hop * MEL_RATE_HZ)
    expected = (MEL_PER_ROW, OUTPUT_RATE_HZ, OUTPUT_RATE_HZ)
    if actual != expected:
        raise CheckpointError(
            f"frames per row, sample rate and samples per second are {actual}, expected {expected}"
        )
