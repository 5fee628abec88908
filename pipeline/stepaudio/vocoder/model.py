# pyright: basic
"""The loaded vocoder: flow and HiFT, and voices and tokens as they read them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import Float32Array, VoicePrompt
from pipeline.errors import AudioError, CheckpointError, StageError
from pipeline.stepaudio import tokens as audio_tokens
from pipeline.stepaudio.config import MEL_PER_ROW, MEL_RATE_HZ, OUTPUT_SAMPLE_RATE_HZ, VocoderConfig
from pipeline.stepaudio.recording import Recorder
from pipeline.stepaudio.vocoder.direct_steps import DirectSteps
from pipeline.stepaudio.vocoder.encoder_records import EncoderRecords
from pipeline.stepaudio.vocoder.flow.batch import WholeUtterance, inference_batch
from pipeline.stepaudio.vocoder.flow.flow import Flow, FlowCache, no_check, stretch_mel
from pipeline.stepaudio.vocoder.hift.fourier import FixedFourier
from pipeline.stepaudio.vocoder.hift.generator import Hift
from pipeline.stepaudio.vocoder.hift.quick_source import QuickSource
from pipeline.stepaudio.vocoder.hift.quick_upsampler import QuickUpsampler
from pipeline.stepaudio.vocoder.hift_records import HiftRecords
from pipeline.stepaudio.vocoder.memory_plan import HALF_BYTES, EncoderRoom, RecordRoom, SlabShape
from pipeline.stepaudio.vocoder.slab import empty_caches, gathered, slab_type
from pipeline.stepaudio.vocoder.voice_state import StateShape, VoiceState
from pipeline.stepaudio.weights import load_strict, read_torch

if TYPE_CHECKING:
    from pipeline.stepaudio.vocoder.step_records import StepRecords

SILENCE = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PromptTensors:
    """A voice prompt on the device.

    rows: int64 [1, P, 2]; mel: [1, P * frames_per_row, M]; embedding: [1, 192].
    """

    rows: Tensor
    mel: Tensor
    embedding: Tensor


class VocoderModel:
    """The loaded modules and what follows from weights and settings alone.

    Never changes once it runs.
    """

    def __init__(
        self,
        config: VocoderConfig,
        flow: Flow,
        hift: Hift,
        device: torch.device,
        steps: int,
        seed: int,
        *,
        is_exact: bool = False,
    ) -> None:
        self.config, self.flow, self.hift = config, flow, hift
        self.device, self.seed, self.is_exact = device, seed, is_exact
        self.records: StepRecords | None = None
        self.encoder_records: EncoderRecords | None = None
        self.hift_records: HiftRecords | None = None
        with torch.inference_mode():
            self.schedule = flow.schedule(steps)
            self._slab_shape = SlabShape.of(config.estimator, steps)
            self.state_shape = StateShape(self._slab_shape, config.encoder)
            self.direct: DirectSteps | None = None
            if device.type == "cpu" and not is_exact:
                flow.decoder.recorded = self.direct = DirectSteps(flow.decoder, self.schedule)
                hift.m_source = QuickSource(config.hift, hift.m_source.l_linear)
                hift.quick = QuickUpsampler(hift)

    @classmethod
    def load(
        cls,
        vocoder_dir: Path,
        device: torch.device,
        steps: int,
        seed: int,
        *,
        is_exact: bool = False,
    ) -> VocoderModel:
        """Raises CheckpointError for files that do not fit."""
        fix_kernels(device)
        config = VocoderConfig.load(vocoder_dir)
        _check_rates(config)
        flow = Flow(config, seed)
        hift = Hift(config.hift, config.f0_predictor)
        for module, name in ((flow, "flow.pt"), (hift, "hift.pt")):
            load_strict(module, read_torch(vocoder_dir / name), str(vocoder_dir / name))
            module.to(device).eval().requires_grad_(False)
        hift.fuse_weight_norm()
        return cls(config, flow, hift, device, steps, seed, is_exact=is_exact)

    @torch.inference_mode()
    def record_steps(self, record: Recorder, room: RecordRoom) -> None:
        """From now on the flow's steps are replayed from records, made at their first use.

        Slabs are of float16 then. Raises ImportError without Triton.
        """
        from pipeline.stepaudio.vocoder.step_records import StepRecords

        self._slab_shape = replace(self._slab_shape, value_bytes=HALF_BYTES)
        self.state_shape = replace(self.state_shape, slab=self._slab_shape)
        self.records = StepRecords(self.flow.decoder, self.schedule, self._slab_shape, room, record)
        self.flow.decoder.recorded = self.records

    @torch.inference_mode()
    def record_encoder(self, record: Recorder, room: EncoderRoom) -> None:
        """From now on the encoder's chunks are replayed from records, made at their first use."""
        self.encoder_records = EncoderRecords(self.flow, self.config.encoder, room, record)
        self.flow.recorded = self.encoder_records

    @torch.inference_mode()
    def record_hift(self, record: Recorder, chunk_frames: Collection[int], max_batch: int) -> None:
        """From now on HiFT's chunks of these lengths are replayed; see `HiftRecords`."""
        self.hift_records = HiftRecords(self.hift, self.seed, chunk_frames, max_batch, record)

    @torch.inference_mode()
    def fuse_hift(self) -> None:
        """From now on HiFT's blocks run in few kernels. Raises ImportError without Triton."""
        from pipeline.stepaudio.vocoder.hift.fused_block import FusedBlock

        hift = self.hift
        fourier = FixedFourier(hift.n_fft, hift.hop, hift.window)
        hift.quick = QuickUpsampler(hift, FusedBlock, fourier)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters and buffers, and of those held a second time, packed."""
        tensors = [t for m in (self.flow, self.hift) for t in (*m.parameters(), *m.buffers())]
        packed = (solver.packed_bytes for solver in (self.records, self.direct) if solver)
        side_by_side = self.hift.parameters() if self.hift.quick is not None else ()
        return sum(t.nbytes for t in (*tensors, *side_by_side)) + sum(packed)

    def prompt_tensors(self, voice: VoicePrompt) -> PromptTensors:
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
        return PromptTensors(
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

    def new_slab(self, n_frames: int) -> Tensor:
        """Of no pool, for exactly so many frames; content undefined."""
        shape = self._slab_shape
        return torch.empty(shape.sizes(n_frames), dtype=slab_type(shape), device=self.device)

    def prompt_cache(
        self, prompt_tensors: PromptTensors, slab: Tensor, on_step: Callable[[], None] = no_check
    ) -> FlowCache:
        """The flow's caches behind the prompt, run on its own; they lie in `slab`."""
        into = empty_caches(slab, self.config.estimator.hidden_size)
        cache = self.flow.setup_cache(
            prompt_tensors.rows,
            None,
            prompt_tensors.mel,
            prompt_tensors.embedding,
            self.schedule,
            on_step,
            into,
        )
        return gathered(slab, cache)

    def voice_state(
        self, prompt_tensors: PromptTensors, on_step: Callable[[], None] = no_check
    ) -> VoiceState:
        """What a stream of this voice starts with. It has whole groups."""
        slab = self.new_slab(prompt_tensors.mel.shape[1])
        return VoiceState.of(self.prompt_cache(prompt_tensors, slab, on_step))

    def decode(
        self,
        utterances: Sequence[tuple[NDArray[np.integer], VoicePrompt]],
        states: Callable[[VoicePrompt, PromptTensors], VoiceState],
    ) -> list[Float32Array]:
        """The flow takes all utterances at once, HiFT one by one.

        HiFT looks both ways in time: padding would be heard. Where a batch gains nothing, on a CPU
        or with recorded steps, the flow takes one by one too, after the voice's state; `states` has
        it or makes it.
        """
        inputs = [(self.rows(ids), self.prompt_tensors(voice)) for ids, voice in utterances]
        if self.direct is not None or self.records is not None:
            voices = [voice for _, voice in utterances]
            return [
                self._spoken(rows, prompt_tensors, partial(states, voice, prompt_tensors))
                for (rows, prompt_tensors), voice in zip(inputs, voices, strict=True)
            ]
        spoken = [
            WholeUtterance(rows, prompt_tensors.rows, prompt_tensors.mel, prompt_tensors.embedding)
            for rows, prompt_tensors in inputs
            if rows.shape[1]
        ]
        mels = iter(inference_batch(self.flow, spoken, self.schedule) if spoken else ())
        return [self._wave(next(mels)) if rows.shape[1] else SILENCE for rows, _ in inputs]

    def _spoken(
        self, rows: Tensor, prompt_tensors: PromptTensors, state: Callable[[], VoiceState]
    ) -> Float32Array:
        """One whole utterance."""
        if not rows.shape[1]:
            return SILENCE
        if not prompt_tensors.rows.shape[1]:  # nothing stands before it
            arguments = (prompt_tensors.rows, prompt_tensors.mel, prompt_tensors.embedding)
            return self._wave(self.flow.inference(rows, *arguments, self.schedule))
        return self._wave(self._after_prompt(state(), rows, prompt_tensors.embedding))

    def _after_prompt(self, state: VoiceState, rows: Tensor, embedding: Tensor) -> Tensor:
        """The mel of a whole utterance."""
        if self.direct is not None:
            mu, _ = self.flow.mu(rows, None, state.encoder)
            return self.direct.whole(self.flow.condition(mu, embedding, mu[:, :0]), state)
        slab = self.new_slab(state.n_frames + rows.shape[1] * self.flow.frames_per_row)
        cache = state.placed(slab)
        mel, _ = self.flow.inference_chunk(rows, None, embedding, cache, self.schedule, 0)
        return mel

    def _wave(self, mel: Tensor) -> Float32Array:
        return to_audio(self.hift(mel, self.hift.m_source.noise(self.seed, 0, mel.shape[2])))


def fix_kernels(device: torch.device) -> None:
    """On CUDA, of all kernels of a convolution take one that gives equal bits every time.

    By default cuDNN may choose one that adds up in whatever order its threads come: at some sizes
    it does for HiFT's upsampling. For the whole process, as torch has it.
    """
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False  # else what is fastest today decides


def to_audio(samples: Tensor) -> Float32Array:
    """[1, L] on any device → float32 (L,), |x| ≤ 1.

    Raises StageError for what is not finite: nobody is to hear it.
    """
    audio = samples[0].clamp(-1, 1).cpu().numpy()
    if not np.isfinite(audio).all():
        raise StageError("the vocoder's audio is not finite", detail="see vocoder.half")
    return audio


def _check_rates(config: VocoderConfig) -> None:
    """Raises CheckpointError unless rows, frames and samples make the rate that clients get."""
    hop = config.hift.samples_per_frame
    actual = (config.encoder.up_stride, config.hift.sampling_rate, hop * MEL_RATE_HZ)
    expected = (MEL_PER_ROW, OUTPUT_SAMPLE_RATE_HZ, OUTPUT_SAMPLE_RATE_HZ)
    if actual != expected:
        raise CheckpointError(
            f"frames per row, sample rate and samples per second are {actual}, expected {expected}"
        )
