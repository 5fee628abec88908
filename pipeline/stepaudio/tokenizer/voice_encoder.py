# pyright: basic
"""Encodes reference clips into voice prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.contracts import (
    GROUP_S,
    VOICE_PROMPT_SCHEMA,
    Float32Array,
    Int16Array,
    ReferenceClip,
    VoicePrompt,
)
from pipeline.errors import AudioError, CheckpointError, ClipDurationError, SampleRateError
from pipeline.stepaudio.config import MelConfig, VocoderConfig
from pipeline.stepaudio.fingerprints import content_fingerprint
from pipeline.stepaudio.health import StageHealth, check_pool
from pipeline.stepaudio.layout import PARAFORMER
from pipeline.stepaudio.tokenizer.clip_queue import ClipQueue
from pipeline.stepaudio.tokenizer.features import (
    clip_prompt_mel,
    clip_speaker_fbank,
    clip_tokenizer_wav,
)
from pipeline.stepaudio.tokenizer.linguistic import ClipFrames, LinguisticTokenizer
from pipeline.stepaudio.tokenizer.semantic import SemanticTokenizer
from pipeline.stepaudio.tokenizer.speaker import SpeakerEncoder

# Raise when the same files and clip give another prompt: cached prompts become unreachable.
PREPROCESSING_VERSION = 1
LOWEST_RATE_HZ = 8_000
HIGHEST_RATE_HZ = 192_000

PARAFORMER_FILES = ("model.pt", "config.yaml", "am.mvn")
CODEBOOK = "linguistic_tokenizer.npy"
SPEECH_TOKENIZER = "speech_tokenizer_v1.onnx"
SPEAKER_MODEL = "campplus.onnx"

BRANCHES = 3  # at a time, per clip: mel, speaker embedding, waveform and then vq06


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """A clip in progress: the input of vq02 and the results of the other branches."""

    frames: ClipFrames
    vq06: Future[Int16Array]
    prompt_mel: Future[Tensor]
    speaker_embedding: Future[Float32Array]
    duration_s: float
    vq02: Future[Int16Array] = field(default_factory=Future)


class StepVoiceEncoder:
    """contracts.VoiceEncoder on the released tokenizer and speaker model.

    tokenizer_dir: Step-Audio-Tokenizer. vocoder_dir: CosyVoice-300M-25Hz, for campplus.onnx.
    device: "cpu", "cuda:0", …
    threads: ONNX Runtime's per operator; torch's are the process's own. arena_limit_bytes: bound of
    each of the two ONNX sessions' GPU memory. concurrent_batches: how many batches of `encode`
    calls run at a time; others wait. batch_s: see ClipQueue. tensorrt_cache: see onnx_session.
    Raises CheckpointError when files are missing, damaged or do not fit each other.
    """

    def __init__(
        self,
        tokenizer_dir: Path,
        vocoder_dir: Path,
        device: str = "cpu",
        threads: int = 2,
        arena_limit_bytes: int | None = None,
        concurrent_batches: int = 2,
        batch_s: float = 0.0,
        tensorrt_cache: Path | None = None,
    ) -> None:
        paraformer_dir = tokenizer_dir / PARAFORMER
        codebook = tokenizer_dir / CODEBOOK
        speech_tokenizer = tokenizer_dir / SPEECH_TOKENIZER
        speaker_model = vocoder_dir / SPEAKER_MODEL
        self._mel_config = VocoderConfig.load(vocoder_dir).mel
        self._fingerprint = encoder_fingerprint(tokenizer_dir, vocoder_dir)
        self._linguistic = LinguisticTokenizer(paraformer_dir, codebook, device)
        session = (device, threads, arena_limit_bytes, tensorrt_cache)
        self._semantic = SemanticTokenizer(speech_tokenizer, *session)
        self._speaker = SpeakerEncoder(speaker_model, *session)
        # two pools: batches wait for branches, branches for nothing, so there is no deadlock
        self._batches = ThreadPoolExecutor(concurrent_batches, "encode-batch")
        self._branches = ThreadPoolExecutor(concurrent_batches * BRANCHES, "encode-branch")
        self._health = StageHealth("tokenizer")
        self._queue = ClipQueue(self._encode_in_pool, concurrent_batches, batch_s)

    @property
    def fingerprint(self) -> str:
        """Hex BLAKE3 of weights and configs, the preprocessing version and the record schema."""
        return self._fingerprint

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        """Like `encode_blocking`, off the event loop and batched with waiting clips.

        The work of a cancelled call runs to completion.
        """
        return await (await self.begin(clip))

    async def begin(self, clip: ReferenceClip) -> Coroutine[Any, Any, VoicePrompt]:
        """Wait for a batch, the first half of `encode`; await the result for the prompt."""
        return await self._queue.begin(clip)

    def encode_blocking(self, clip: ReferenceClip) -> VoicePrompt:
        """The voice prompt of a clip; deterministic. Its branches run in parallel.

        Raises ClipDurationError for a clip shorter than one token group or of which less than one
        remains after trimming, SampleRateError for a rate outside 8–192 kHz, AudioError for samples
        that are not finite.
        """
        return self._encode_batch([clip])[0].result()

    async def _encode_in_pool(self, clips: list[ReferenceClip]) -> list[Future[VoicePrompt]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._batches, self._encode_batch, clips)

    def _encode_batch(self, clips: Sequence[ReferenceClip]) -> list[Future[VoicePrompt]]:
        """Prompts of several clips, each done or failed; their vq02 is computed in one pass."""
        with self._health.watching():
            begun = [self._branches.submit(self._begin_branches, clip) for clip in clips]
            wait(begun)
            heard = [parts.result() for parts in begun if not parts.exception()]
            codes = self._linguistic.encode_frames([parts.frames for parts in heard])
            for parts, vq02 in zip(heard, codes, strict=True):
                parts.vq02.set_result(vq02)
            return [self._finished(parts) for parts in begun]

    def _begin_branches(self, clip: ReferenceClip) -> _Parts:
        """A branch itself; starts the other branches of a clip."""
        _check_clip(clip)
        samples, rate_hz = torch.from_numpy(np.array(clip.samples, np.float32)), clip.sample_rate_hz
        mel = self._branches.submit(clip_prompt_mel, samples, rate_hz, self._mel_config)
        embedding = self._branches.submit(self._embed_speaker, samples, rate_hz)
        waveform = clip_tokenizer_wav(samples, rate_hz)
        vq06 = self._branches.submit(self._semantic.encode, waveform)
        return _Parts(self._linguistic.frames(waveform), vq06, mel, embedding, clip.duration_s)

    def _finished(self, begun: Future[_Parts]) -> Future[VoicePrompt]:
        finished: Future[VoicePrompt] = Future()
        try:
            finished.set_result(self._voice(begun.result()))
        except Exception as error:  # noqa: BLE001 - this clip's caller gets it
            self._health.saw(error)
            finished.set_exception(error)
        return finished

    def _voice(self, parts: _Parts) -> VoicePrompt:
        voice = VoicePrompt(
            vq02=parts.vq02.result(),
            vq06=parts.vq06.result(),
            prompt_mel=parts.prompt_mel.result().numpy(),
            speaker_embedding=parts.speaker_embedding.result(),
            duration_s=parts.duration_s,
            fingerprint=self._fingerprint,
        )
        if not voice.n_groups:
            raise ClipDurationError(
                f"after trimming silence the clip holds {len(voice.vq02)} + {len(voice.vq06)} "
                f"codes; at least 2 + 3 ({GROUP_S} s of sound) are needed"
            )
        return voice

    def check_health(self) -> None:
        """Raises StageError when threads or device are gone, or a batch hangs."""
        for pool in (self._batches, self._branches):
            check_pool(pool, "tokenizer")
        self._health.check()

    def close(self) -> None:
        """Wait for running clips and end the threads; no encode may follow."""
        self._batches.shutdown()
        self._branches.shutdown()

    def _embed_speaker(self, samples: Tensor, rate_hz: int) -> Float32Array:
        return self._speaker.encode(clip_speaker_fbank(samples, rate_hz))


def encoder_fingerprint(tokenizer_dir: Path, vocoder_dir: Path) -> str:
    """The fingerprint of an encoder of these files, which are read and not loaded.

    Raises CheckpointError that names every missing file.
    """
    files = [tokenizer_dir / PARAFORMER / name for name in PARAFORMER_FILES]
    files += [tokenizer_dir / CODEBOOK, tokenizer_dir / SPEECH_TOKENIZER]
    files.append(vocoder_dir / SPEAKER_MODEL)
    return fingerprint_files(files, VocoderConfig.load(vocoder_dir).mel)


def fingerprint_files(files: list[Path], mel_config: MelConfig) -> str:
    """Hex BLAKE3 over the content of `files`, in order, and all else that decides a prompt's value.

    Raises CheckpointError that names every missing file.
    """
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise CheckpointError(f"missing: {', '.join(missing)}")
    versions = (PREPROCESSING_VERSION, VOICE_PROMPT_SCHEMA, *astuple(mel_config))
    return content_fingerprint(versions, files)


def _check_clip(clip: ReferenceClip) -> None:
    """The ingress checks these bounds already; other callers need them here."""
    if not LOWEST_RATE_HZ <= clip.sample_rate_hz <= HIGHEST_RATE_HZ:
        raise SampleRateError(
            f"the clip's sample rate is {clip.sample_rate_hz} Hz; "
            f"allowed are {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}"
        )
    if clip.duration_s < GROUP_S:
        raise ClipDurationError(
            f"the clip lasts {clip.duration_s:.3f} s; at least {GROUP_S} s are needed"
        )
    if not np.isfinite(clip.samples).all():
        raise AudioError("the clip holds samples that are not finite numbers")
