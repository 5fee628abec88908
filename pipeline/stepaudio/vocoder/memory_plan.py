"""Device memory of a vocoder, computed in advance from sizes and settings."""

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
CONV_PAST_FRAMES = 2  # that the estimator's convolutions look at before a frame
SLAB_FRAMES = 32  # capacities are multiples of it, so that streams can use each other's slabs
UTTERANCE_ROWS = 60 * ROW_RATE_HZ  # the encoder's cache grows; a stream is counted as a minute
WORKSPACE_BYTES = 2**30  # activations of the widest step, HiFT's, and what the allocator wastes
JOINED_PROMPT_ROWS = 10 * ROW_RATE_HZ  # batches are planned for streams with such prompts
LONGEST_PROMPT_ROWS = 30 * ROW_RATE_HZ  # chunks after such a prompt are still recorded
RECORDED_PROMPT_FRAMES = 768  # at least: longer passes compute so much that launches hardly count
CHUNK_FRAMES, CHUNK_UNIT = 128, 16  # up to so many new frames, sizes are multiples of the unit
PROMPT_UNIT = 64  # beyond: a prompt of six seconds is padded by a twentieth
KEYS_UNIT, JOINED_KEYS_UNIT = 128, 256  # a hidden key costs little, a record of its own more
RECORDS = 64  # what a service meets often; a new one costs about one step that is not recorded
RECORD_BYTES = 2**22  # of the device, for a recorded step of some 400 launches
HIFT_RECORDS = 32  # sizes of HiFT's chunks, see `hift_records`
HIFT_RECORD_BYTES = 2**23  # of the device, for some 600 launches
HIFT_FRAME_BYTES = 2**19  # activations, noise and phase of a frame in the widest record
HIFT_PAST_FRAMES = 16  # that HiFT runs again before a chunk, see `hift_stream`


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
class RecordedSize:
    """Sizes of one recorded Euler step: `streams` in all, each with `keys` frames to look at.

    The last `frames` of them are new. All are buckets: what is left over is hidden.
    """

    streams: int
    keys: int
    frames: int

    @classmethod
    def of(cls, streams: int, past_frames: int, frames: int) -> RecordedSize:
        """The smallest that holds so many streams, so many frames before, and so many new ones."""
        half = 1 << (max(streams - 1, 1).bit_length() - 1)
        rows = next(n for n in (1, half, half * 3 // 2, half * 2) if n >= streams)
        new = _whole(frames, CHUNK_UNIT if frames <= CHUNK_FRAMES else PROMPT_UNIT)
        keys = _whole(past_frames + new, KEYS_UNIT if rows == 1 else JOINED_KEYS_UNIT)
        return cls(rows, keys, new)


@dataclass(frozen=True, slots=True)
class RecordRoom:
    """What the static tensors of recorded steps hold: streams times frames, at most.

    keys: of keys and values. new: of what is computed in a step, with what convolutions look at.
    """

    keys: int
    new: int

    @classmethod
    def of(
        cls, frames_per_row: int, recent_frames: int, chunk_rows: tuple[int, ...], max_batch: int
    ) -> RecordRoom:
        """Room for full batches and for one stream with a prompt of the longest kind."""
        chunk = max(chunk_rows) * frames_per_row
        joined = JOINED_PROMPT_ROWS * frames_per_row + recent_frames
        longest = LONGEST_PROMPT_ROWS * frames_per_row + recent_frames
        sizes = (
            RecordedSize.of(max_batch, joined, chunk),
            RecordedSize.of(1, longest, chunk),
            RecordedSize.of(1, 0, RECORDED_PROMPT_FRAMES),
        )
        return cls(
            max(size.streams * size.keys for size in sizes),
            max(size.streams * (size.frames + CONV_PAST_FRAMES) for size in sizes),
        )

    def holds(self, size: RecordedSize) -> bool:
        """Whether a step of this size fits."""
        new = size.streams * (size.frames + CONV_PAST_FRAMES)
        return size.streams * size.keys <= self.keys and new <= self.new

    def size_bytes(self, slab: SlabShape) -> int:
        """Bytes of the static tensors and of all records."""
        per_new = GUIDANCE_ROWS * slab.width * FLOAT_BYTES * (2 * slab.blocks + 2)
        per_key = slab.frame_bytes // slab.steps + GUIDANCE_ROWS * FLOAT_BYTES
        return self.keys * per_key + self.new * per_new + RECORDS * RECORD_BYTES


def _whole(n: int, unit: int) -> int:
    return -(-n // unit) * unit


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
        room: RecordRoom | None = None,
    ) -> VocoderMemory:
        """kept_bytes: weights and kept prompts. room: of recorded steps, None without them.

        A batch joins its streams' caches for one Euler step at a time; streams with the prompts of
        ten seconds are assumed. With recorded steps that happens in their room, and HiFT's chunks
        are recorded too.
        """
        slab = SlabShape.of(config.estimator, steps)
        rows = JOINED_PROMPT_ROWS + max(chunk_rows) + (recent_frames or 0)
        batch_bytes = max_batch * rows * config.encoder.up_stride * slab.frame_bytes // steps
        if room is not None:
            batch_bytes = room.size_bytes(slab) + _hift_record_bytes(config, chunk_rows, max_batch)
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


def joined_rows(n_streams: int) -> int:
    """Rows of HiFT's record for so many streams: the next power of two."""
    return 1 << (n_streams - 1).bit_length()


def _hift_record_bytes(config: VocoderConfig, chunk_rows: tuple[int, ...], max_batch: int) -> int:
    chunk = min(max(chunk_rows) * config.encoder.up_stride, CHUNK_FRAMES)
    n_frames = joined_rows(max_batch) * (HIFT_PAST_FRAMES + chunk)
    return n_frames * HIFT_FRAME_BYTES + HIFT_RECORDS * HIFT_RECORD_BYTES


def _encoder_row_bytes(config: EncoderConfig) -> int:
    blocks = config.num_blocks + config.num_up_blocks * config.up_stride
    return blocks * KEYS_AND_VALUES * config.output_size * FLOAT_BYTES
