"""What a vocoder takes of its device, computed from sizes and settings before it is taken.

Knows no device and no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.stepaudio.config import (
    ROW_RATE_HZ,
    EncoderConfig,
    EstimatorConfig,
    VocoderConfig,
)
from pipeline.stepaudio.vocoder.schedule import chunk_schedule

FLOAT_BYTES = 4
GUIDANCE_ROWS = 2
KEYS_AND_VALUES = 2
SLAB_FRAMES = 32  # capacities are multiples of it, so that streams can use each other's slabs
UTTERANCE_ROWS = 60 * ROW_RATE_HZ  # the encoder's cache grows; a stream is counted as a minute
WORKSPACE_BYTES = 2**30  # activations of the widest step, HiFT's, and what the allocator wastes


@dataclass(frozen=True, slots=True)
class SlabShape:
    """Sizes of the estimator's keys and values in one stream."""

    steps: int
    blocks: int
    heads: int
    head_width: int
    width: int

    @classmethod
    def of(cls, config: EstimatorConfig, steps: int) -> SlabShape:
        """Of an estimator that is run for `steps` Euler steps."""
        return cls(steps, config.depth, config.num_heads, config.head_dim, config.hidden_size)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one cached mel frame."""
        per_block = KEYS_AND_VALUES * GUIDANCE_ROWS * self.heads * self.head_width * FLOAT_BYTES
        return self.steps * self.blocks * per_block

    def capacity_frames(self, n_frames: int) -> int:
        """Frames of the slab that holds `n_frames`."""
        return -(-n_frames // SLAB_FRAMES) * SLAB_FRAMES

    def slab_bytes(self, n_frames: int) -> int:
        """Bytes of the slab that holds `n_frames`."""
        return self.capacity_frames(n_frames) * self.frame_bytes


@dataclass(frozen=True, slots=True)
class VocoderMemory:
    """Bytes of one decoder.

    encoder_row_bytes: what the encoder keeps of a token row. recent_frames, chunk_rows: see
    StepWaveDecoder. shared_bytes: taken whatever streams run: weights, kept prompts, batches,
    workspace.
    """

    slab: SlabShape
    lookahead_rows: int
    frames_per_row: int
    encoder_row_bytes: int
    recent_frames: int | None
    chunk_rows: tuple[int, ...]
    shared_bytes: int

    @classmethod
    def of(
        cls,
        config: VocoderConfig,
        steps: int,
        recent_frames: int | None,
        chunk_rows: tuple[int, ...],
        *,
        max_batch: int,
        kept_bytes: int,
    ) -> VocoderMemory:
        """kept_bytes: weights and kept prompts.

        A batch joins its streams' caches for one Euler step at a time; streams with the prompts of
        ten seconds are assumed.
        """
        slab = SlabShape.of(config.estimator, steps)
        rows = 10 * ROW_RATE_HZ + max(chunk_rows) + (recent_frames or 0)
        batch_bytes = max_batch * rows * config.encoder.up_stride * slab.frame_bytes // steps
        return cls(
            slab=slab,
            lookahead_rows=config.encoder.pre_lookahead_len,
            frames_per_row=config.encoder.up_stride,
            encoder_row_bytes=_encoder_row_bytes(config.encoder),
            recent_frames=recent_frames,
            chunk_rows=chunk_rows,
            shared_bytes=kept_bytes + batch_bytes + WORKSPACE_BYTES,
        )

    def slab_frames(self, prompt_rows: int, schedule: tuple[int, ...]) -> int:
        """Mel frames that the estimator's cache of a stream ever holds.

        The prompt, what it sees of the past, and the largest chunk; the last one takes the rows
        along that would have been looked ahead to.
        """
        past_frames = UTTERANCE_ROWS * self.frames_per_row
        past_frames = past_frames if self.recent_frames is None else self.recent_frames
        rows = prompt_rows + max(schedule) + self.lookahead_rows
        return rows * self.frames_per_row + past_frames

    def stream_bytes(self, prompt_rows: int, first_rows: int | None = None) -> int:
        """What a stream holds at most. first_rows: its `initial_codec_chunk_frames`."""
        schedule = chunk_schedule(self.chunk_rows, first_rows)
        encoder_bytes = (prompt_rows + UTTERANCE_ROWS) * self.encoder_row_bytes
        return self.slab.slab_bytes(self.slab_frames(prompt_rows, schedule)) + encoder_bytes


def _encoder_row_bytes(config: EncoderConfig) -> int:
    blocks = config.num_blocks + config.num_up_blocks * config.up_stride
    return blocks * KEYS_AND_VALUES * config.output_size * FLOAT_BYTES
