# pyright: basic
"""The vocoder as a stage: audio tokens in, 24 kHz audio out, whole or streamed.

Knows no request, Ray or cache. All model work runs on one worker thread per decoder; a stream's
state lives in its generator's frame alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import AudioChunk, Float32Array, TokenChunk, VoicePrompt
from pipeline.errors import AudioError, CheckpointError, ConfigError, StageError
from pipeline.stepaudio import tokens as audio_tokens
from pipeline.stepaudio.config import MEL_PER_ROW, MEL_RATE_HZ, OUTPUT_RATE_HZ, VocoderConfig
from pipeline.stepaudio.flow import DEFAULT_SEED, DEFAULT_STEPS, Flow, FlowCache, stretch_mel
from pipeline.stepaudio.hift import Hift, source_noise
from pipeline.stepaudio.hift_stream import HiftState, decode_chunk
from pipeline.stepaudio.weights import load_strict, read_torch

CHUNK_ROWS = (15, 24, 48)  # 0.6, 0.96, then 1.92 s each
RECENT_FRAMES = 96  # the estimator sees the prompt and the last 1.92 s before a chunk
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
    Raises CheckpointError for files that do not fit, ConfigError for impossible settings.
    """

    def __init__(
        self,
        vocoder_dir: Path,
        device: str | torch.device = "cpu",
        *,
        threads: int | None = None,
        chunk_rows: Sequence[int] = CHUNK_ROWS,
        steps: int = DEFAULT_STEPS,
        seed: int = DEFAULT_SEED,
        recent_frames: int | None = RECENT_FRAMES,
    ) -> None:
        if not chunk_rows or min(chunk_rows) < 1 or steps < 1 or (threads or 1) < 1:
            raise ConfigError(
                f"chunk_rows {list(chunk_rows)}, steps {steps} and threads {threads} "
                "must all be positive"
            )
        if recent_frames is not None and recent_frames < 0:
            raise ConfigError(f"recent_frames is {recent_frames}, must not be negative")
        self._model = _Model.load(Path(vocoder_dir), torch.device(device), steps, seed)
        self._chunk_rows = tuple(chunk_rows)
        self._recent_frames = recent_frames
        self._active = 0  # changes on the event loop only
        self._executor = ThreadPoolExecutor(1, "vocoder", _set_threads, (threads,))

    @property
    def active_streams(self) -> int:
        """Streams that hold state now."""
        return self._active

    def close(self) -> None:
        """Stop the worker once its current job is done; what waits is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def decode(self, ids: NDArray[np.integer], voice: VoicePrompt) -> Float32Array:
        """A whole utterance at once: audio tokens (5k,) → float32 (k * 2880,).

        Blocks: call it off the event loop.
        Raises StageError for broken tokens or a failing model, AudioError for an unusable voice.
        """
        return self._executor.submit(_guarded, lambda: self._model.decode(ids, voice)).result()

    async def stream(
        self, tokens: AsyncIterator[TokenChunk], voice: VoicePrompt
    ) -> AsyncGenerator[AudioChunk]:
        """Audio as soon as its tokens are there; see `contracts.WaveDecoder`.

        A chunk is cut when its rows and the lookahead after it are there, whether or not more
        follow: borders depend on token counts alone. Errors of `tokens` pass through. Ends with
        `tokens` closed and no state left.
        Raises StageError for broken tokens or a failing model, AudioError for an unusable voice.
        """
        self._active += 1
        try:
            utterance = _Utterance(self._model, voice, self._chunk_rows, self._recent_frames)
            async for chunk in tokens:
                utterance.add(chunk.ids)
                while (work := utterance.next_work()) is not None:
                    samples = await self._run(work, utterance.stopped)
                    if len(samples):
                        yield AudioChunk(samples, last=False)
                if chunk.last:
                    yield AudioChunk(
                        await self._run(utterance.finish, utterance.stopped), last=True
                    )
                    return
            raise StageError("the token stream ended without a last chunk")
        finally:
            self._active -= 1
            close = getattr(tokens, "aclose", None)
            if close is not None:
                await close()

    async def _run(
        self, work: Callable[[], Float32Array], stopped: threading.Event
    ) -> Float32Array:
        """`work` on the worker thread.

        When the caller goes away, waits for the worker to let go of the state.
        """
        job = self._executor.submit(_guarded, work)
        try:
            return await asyncio.wrap_future(job)
        finally:
            if not job.done():
                stopped.set()
                job.cancel()
                await _settled(job)


def _set_threads(threads: int | None) -> None:
    """Runs on the worker itself: OpenMP keeps its thread count per thread."""
    if threads is not None:
        torch.set_num_threads(threads)


async def _settled(job: Future[Float32Array]) -> None:
    waiter = asyncio.wrap_future(job)
    await asyncio.wait((waiter,))
    if not waiter.cancelled():
        waiter.exception()  # nobody waits for the result any more


def _guarded(work: Callable[[], Float32Array]) -> Float32Array:
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

    def decode(self, ids: NDArray[np.integer], voice: VoicePrompt) -> Float32Array:
        rows, speaker = self.rows(ids), self.speaker(voice)
        if not rows.shape[1]:
            return SILENCE
        mel = self.flow.inference(rows, speaker.rows, speaker.mel, speaker.embedding, self.schedule)
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
    ) -> None:
        self.stopped = threading.Event()
        self._model = model
        self._speaker = model.speaker(voice)
        self._chunk_rows = list(chunk_rows)
        self._recent_frames = recent_frames
        self._waiting = self._speaker.rows[:, :0]
        self._is_prepared = False
        self._flow_cache: FlowCache | None = None
        self._hift_state: HiftState | None = None

    def add(self, ids: NDArray[np.integer]) -> None:
        """Queue audio tokens of whole groups."""
        self._waiting = torch.cat((self._waiting, self._model.rows(ids)), dim=1)

    def next_work(self) -> Callable[[], Float32Array] | None:
        """What can be computed with the rows that wait, or None when more are needed."""
        n_waiting, n_ahead = self._waiting.shape[1], self._model.flow.lookahead_rows
        if not self._is_prepared and n_waiting >= n_ahead:
            return self._prepare
        if n_waiting >= self._chunk_rows[0] + n_ahead:
            return self._next_chunk
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
            self._flow_cache = flow.setup_cache(
                speaker.rows,
                ahead,
                speaker.mel,
                speaker.embedding,
                self._model.schedule,
                self._on_step,
            )
        self._is_prepared = True
        return SILENCE

    def _next_chunk(self) -> Float32Array:
        n_rows = self._chunk_rows.pop(0) if len(self._chunk_rows) > 1 else self._chunk_rows[0]
        rows, self._waiting = self._waiting[:, :n_rows], self._waiting[:, n_rows:]
        return self._decode(rows, self._waiting[:, : self._model.flow.lookahead_rows])

    def _decode(self, rows: Tensor, ahead: Tensor | None) -> Float32Array:
        model = self._model
        mel, self._flow_cache = model.flow.inference_chunk(
            rows,
            ahead,
            self._speaker.embedding,
            self._flow_cache,
            model.schedule,
            self._recent_frames,
            self._on_step,
        )
        self._on_step()
        state = self._hift_state or HiftState.start(mel)
        samples, self._hift_state = decode_chunk(
            model.hift, mel, state, model.seed, last=ahead is None
        )
        return _to_audio(samples)

    def _on_step(self) -> None:
        if self.stopped.is_set():
            raise _StoppedError


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
