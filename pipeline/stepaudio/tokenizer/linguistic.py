# pyright: basic
"""vq02, the linguistic codes: FunASR's front end and encoder, then the nearest codebook row.

The encoder was made for chunks that arrive one by one; here all chunks of all clips are computed
at once, layer by layer, with equal results.

Letters: B clips, F frames of the longest, C chunks of all clips, T frames of a chunk with its left
context, H heads, D width, d width of a head, P frames of the past that a chunk attends to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from pipeline.errors import CheckpointError
from pipeline.stepaudio.tokenizer.funasr_parts import funasr_classes
from pipeline.stepaudio.tokenizer.linguistic_shapes import ENCODER_PREFIX
from pipeline.stepaudio.weights import load_strict


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """Chunks of the encoder, in frames of 60 ms; defaults as in the released tokenizer."""

    new_frames: int = 4
    """New frames of a chunk."""
    context_frames: int = 5
    """Earlier frames that are computed again with them."""
    look_back_chunks: int = 4
    """Number of earlier chunks that a layer attends to."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipFrames:
    """A clip as input of the encoder."""

    features: Tensor
    """float32 [n_frames, lfr_m · n_mels], stacked, normalised fbank, on the CPU."""
    chunk_lengths: list[int]
    """New frames of each chunk, none zero."""


class LinguisticEncoder:
    """Waveform → encoder output, and its codes once a codebook is given.

    encoder_conf, frontend_conf: the sections of FunASR's config.yaml. cmvn: path of am.mvn.
    `encoder` is FunASR's module; load its parameters before use.
    Raises CheckpointError when the sections or am.mvn do not fit each other or the package.
    """

    def __init__(
        self,
        encoder_conf: Mapping[str, Any],
        frontend_conf: Mapping[str, Any],
        cmvn: Path,
        device: str = "cpu",
        chunk_size: ChunkSize | None = None,
    ) -> None:
        encoder_class, frontend_class = funasr_classes()
        conf = {**frontend_conf, "cmvn_file": str(cmvn), "dither": 0.0}  # dither would be random
        try:
            self.frontend = frontend_class(**conf)
            sizes = {"input_size": self.frontend.output_size(), **encoder_conf}
            self.encoder = encoder_class(**sizes).to(device).eval()
        except (OSError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"no encoder fits {cmvn} and its configuration: {error}"
            ) from error
        if self.frontend.cmvn.shape[1] != sizes["input_size"]:
            n_shifts, n_features = self.frontend.cmvn.shape[1], sizes["input_size"]
            raise CheckpointError(
                f"{cmvn} is for {n_shifts} features; the encoder reads {n_features}"
            )
        self.chunk_size = chunk_size or ChunkSize()
        self._device = device

    @torch.inference_mode()
    def encode(self, waveform: Tensor) -> Tensor:
        """16 kHz waveform → encoder output.

        (n_samples,) → float32 (n_frames, width), 60 ms a frame.
        """
        return self.encode_frames([self.frames(waveform)])[0]

    def frames(self, waveform: Tensor) -> ClipFrames:
        """The features of a whole clip. (n_samples,) → as ClipFrames says."""
        lengths = self.chunk_lengths(len(waveform))
        if not lengths:
            return ClipFrames(torch.empty(0, self.frontend.output_size()), lengths)
        n_samples = torch.tensor([len(waveform)])
        features, _ = self.frontend(waveform[None], n_samples, cache={}, is_final=True)
        return ClipFrames(features[0, : sum(lengths)], lengths)

    def encode_frames(self, clips: Sequence[ClipFrames]) -> list[Tensor]:
        """Encoder output of every clip, float32 [n_frames, D], all in one pass.

        No clip sees another. Gradients flow unless the caller has switched them off.
        """
        n_frames = [len(clip.features) for clip in clips]
        width = self.encoder.output_size()
        if not any(n_frames):
            return [torch.empty(0, width, device=self._device) for _ in clips]
        features = pad_sequence([clip.features for clip in clips], batch_first=True)  # [B, F, …]
        embedded = features.to(self._device) * width**0.5
        if self.encoder.embed is not None:
            embedded = self.encoder.embed(embedded)
        plan = _ChunkPlan.build([c.chunk_lengths for c in clips], self.chunk_size, self._device)
        hidden = plan.split(embedded)
        for layer in (*self.encoder.encoders0, *self.encoder.encoders):
            hidden = _run_layer(layer, hidden, plan)
        if self.encoder.normalize_before:
            hidden = self.encoder.after_norm(hidden)
        return list(plan.join(hidden).split(n_frames))

    def chunk_lengths(self, n_samples: int) -> list[int]:
        """Frames that each chunk of `n_samples` adds; the last may be shorter."""
        n_full, rest = divmod(n_samples, self._chunk_samples)
        ends = [self._frames_complete(i * self._chunk_samples) for i in range(n_full + 1)]
        if rest:  # the last frame is padded by repeating the last fbank frame
            total = math.ceil(self._fbank_frames(n_samples) / self.frontend.lfr_n)
            ends.append(max(ends[-1], total))
        return [length for length in np.diff(ends).tolist() if length]

    def has_short_tail(self, n_samples: int) -> bool:
        """Whether the last chunk adds a frame that consists of padding only."""
        complete = self._frames_complete(n_samples)
        in_full_chunks = self._frames_complete(n_samples - n_samples % self._chunk_samples)
        return complete == in_full_chunks < sum(self.chunk_lengths(n_samples))

    @property
    def _chunk_samples(self) -> int:
        hop = self.frontend.frame_shift_sample_length
        return self.chunk_size.new_frames * self.frontend.lfr_n * hop

    def _frames_complete(self, n_samples: int) -> int:
        """Stacked frames that depend on the first `n_samples` alone."""
        n_fbank = self._fbank_frames(n_samples)
        lead = (self.frontend.lfr_m - 1) // 2  # copies of the first frame in front
        return max(0, (n_fbank + lead - self.frontend.lfr_m) // self.frontend.lfr_n + 1)

    def _fbank_frames(self, n_samples: int) -> int:
        return self.frontend.compute_frame_num(
            n_samples, self.frontend.frame_sample_length, self.frontend.frame_shift_sample_length
        )


class LinguisticTokenizer:
    """16 kHz waveform → vq02 codes, from the files of the released tokenizer.

    paraformer_dir: FunASR's model directory (config.yaml, model.pt, am.mvn). codebook: float32 npy
    (n_codes, width).
    Raises CheckpointError when files are missing, unreadable or do not fit each other.
    """

    def __init__(self, paraformer_dir: Path, codebook: Path, device: str = "cpu") -> None:
        config = _read_config(paraformer_dir / "config.yaml")
        cmvn = paraformer_dir / "am.mvn"
        self._encoder = LinguisticEncoder(
            config["encoder_conf"], config["frontend_conf"], cmvn, device
        )
        weights = paraformer_dir / "model.pt"
        load_strict(self._encoder.encoder, _read_encoder_state(weights), str(weights))
        self._codebook = torch.from_numpy(_read_codebook(codebook, config))

    def encode(self, waveform: Tensor) -> NDArray[np.int16]:
        """(n_samples,) → int16 (n_codes,), 60 ms a code."""
        return self.encode_frames([self.frames(waveform)])[0]

    @torch.inference_mode()
    def frames(self, waveform: Tensor) -> ClipFrames:
        """Input of `encode_frames` from a clip. Runs on the CPU."""
        return self._encoder.frames(waveform)

    @torch.inference_mode()
    def encode_frames(self, clips: Sequence[ClipFrames]) -> list[NDArray[np.int16]]:
        """The codes of every clip, in one pass of the encoder."""
        encoded = self._encoder.encode_frames(clips)
        return [nearest_codes(hidden, self._codebook) for hidden in encoded]


@torch.inference_mode()
def nearest_codes(hidden: Tensor, codebook: Tensor) -> NDArray[np.int16]:
    """Index of the Euclidean-nearest codebook row. (n, width), (n_codes, width) → int16 (n,).

    Runs on the CPU in full float32, whatever the encoder's device: TF32 distances would flip near
    ties.
    """
    distances = torch.cdist(hidden.float().cpu(), codebook)
    return distances.argmin(dim=1).numpy().astype(np.int16)


@dataclass(frozen=True, slots=True)
class _ChunkPlan:
    """Index tensors from clips to a batch of chunks and back, the same for every layer.

    Masked places hold something of their own clip: -inf does not hide NaN.
    """

    frames: Tensor
    """int64 [C, T], which of the flattened [B · (context + F)] frames stands at each place."""
    is_frame: Tensor | None
    """float [C, T, 1], 0 behind a short chunk's end; None when no chunk is short."""
    keys: Tensor
    """int64 [C · (P + T)], which of the flattened [C · T] places each chunk attends to: its past,
    then itself."""
    bias: Tensor
    """float [C, 1, 1, P + T], 0 where such a key exists, else -inf."""
    kept: Tensor
    """int64 [n_frames], places of the output."""
    context_frames: int
    """Zeros in front of every clip."""

    @classmethod
    def build(cls, clips: Sequence[Sequence[int]], size: ChunkSize, device: str) -> _ChunkPlan:
        """`clips`: of each, the new frames of its chunks, none zero."""
        context = size.context_frames
        added = np.concatenate([np.asarray(lengths, np.int64) for lengths in clips])
        width = context + added.max()
        starts = np.cumsum(added) - added  # among the new frames of all clips
        n_frames = np.array([sum(lengths) for lengths in clips])
        clip = np.repeat(np.arange(len(clips)), [len(lengths) for lengths in clips])
        first = (np.cumsum(n_frames) - n_frames)[clip][:, None]  # where the chunk's clip starts
        row = (clip * (context + n_frames.max()))[:, None]  # and where in the padded frames
        place = np.arange(width)
        is_frame = place < (context + added)[:, None]
        frames = row + np.where(is_frame, starts[:, None] - first + place, 0)
        own = np.arange(len(added))[:, None] * width + place
        # later chunks see the keys of its first `added` places: its last frames come again
        flat = own[place < added[:, None]]
        reach = size.look_back_chunks * size.new_frames
        past = starts[:, None] - reach + np.arange(reach)
        keys = np.concatenate([flat[np.maximum(past, first)], own], axis=1)
        is_key = np.concatenate([past >= first, is_frame], axis=1)[:, None, None]
        kept = np.flatnonzero(is_frame & (place >= context))

        def tensor(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(device)

        return cls(
            frames=tensor(frames),
            is_frame=None if is_frame.all() else tensor(is_frame[..., None].astype(np.float32)),
            keys=tensor(keys.reshape(-1)),
            bias=tensor(np.where(is_key, 0.0, -np.inf).astype(np.float32)),
            kept=tensor(kept),
            context_frames=context,
        )

    def split(self, clips: Tensor) -> Tensor:
        """[B, F, width] → [C, T, width]."""
        return F.pad(clips, (0, 0, self.context_frames, 0)).flatten(0, 1)[self.frames]

    def join(self, chunks: Tensor) -> Tensor:
        """[C, T, width] → [n_frames, width]: the new frames of every chunk, clip after clip."""
        return chunks.flatten(0, 1)[self.kept]

    def gather(self, keys_values: Tensor) -> Tensor:
        """Keys and values of the chunks, with those of the past in front.

        [C, T, 2D] → [C, P + T, 2D], one copy of rows: the same key stands in several chunks.
        """
        rows = keys_values.flatten(0, 1).index_select(0, self.keys)
        return rows.unflatten(0, (len(keys_values), -1))


def _run_layer(layer: Any, hidden: Tensor, plan: _ChunkPlan) -> Tensor:
    """FunASR's EncoderLayerSANM.forward_chunk on all chunks at once.

    [C, T, width in] → [C, T, width out].
    """
    attended = _attend(
        layer.self_attn, layer.norm1(hidden) if layer.normalize_before else hidden, plan
    )
    if layer.in_size == layer.size:
        attended += hidden
    if not layer.normalize_before:
        attended = layer.norm1(attended)
    forwarded = layer.feed_forward(layer.norm2(attended) if layer.normalize_before else attended)
    forwarded += attended
    return forwarded if layer.normalize_before else layer.norm2(forwarded)


def _attend(attention: Any, hidden: Tensor, plan: _ChunkPlan) -> Tensor:
    """Attention over the chunk and its past, plus the convolution over the chunk's own values."""
    width = attention.h * attention.d_k
    qkv = attention.linear_q_k_v(hidden)  # [C, T, 3D]
    gathered = plan.gather(qkv[..., width:])
    query, key, value = (
        part.unflatten(-1, (attention.h, attention.d_k)).transpose(1, 2)  # [C, H, …, d]
        for part in (qkv[..., :width], gathered[..., :width], gathered[..., width:])
    )
    heads = F.scaled_dot_product_attention(query, key, value, attn_mask=plan.bias)
    attended = attention.linear_out(heads.transpose(1, 2).flatten(2))
    attended += _memory(attention, qkv[..., 2 * width :], plan.is_frame)
    return attended


def _memory(attention: Any, values: Tensor, is_frame: Tensor | None) -> Tensor:
    """FSMN: every channel's convolution over its chunk, plus the values themselves.

    [C, T, D] → [C, T, D]. As a convolution over an image of one row with channels last: in that
    layout nothing has to be transposed.
    """
    if is_frame is not None:
        values = values * is_frame
    padded = F.pad(values, (0, 0, *attention.pad_fn.padding))
    image = padded.transpose(1, 2)[:, :, None]  # [C, D, 1, T + kernel - 1]
    kernel = attention.fsmn_block.weight[:, :, None]
    memory = F.conv2d(image, kernel, groups=len(kernel))[:, :, 0].transpose(1, 2)
    memory += values
    return memory


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    for section in ("encoder_conf", "frontend_conf"):
        if not isinstance(config, dict) or not isinstance(config.get(section), dict):
            raise CheckpointError(f"{path} has no section {section}")
    return config


def _read_encoder_state(path: Path) -> dict[str, Tensor]:
    """The encoder's parameters of a whole Paraformer model, without their prefix."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    state = state.get("state_dict", state)
    return {
        name.removeprefix(ENCODER_PREFIX): tensor
        for name, tensor in state.items()
        if name.startswith(ENCODER_PREFIX)
    }


def _read_codebook(path: Path, config: Mapping[str, Any]) -> NDArray[np.float32]:
    width = config["encoder_conf"].get("output_size")
    try:
        codebook = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if codebook.ndim != 2 or codebook.shape[1] != width:  # noqa: PLR2004
        raise CheckpointError(f"{path} has shape {codebook.shape}; expected (codes, {width})")
    return codebook.astype(np.float32)
