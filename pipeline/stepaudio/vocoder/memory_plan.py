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

FLOAT_BYTES, HALF_BYTES = 4, 2
GUIDANCE_ROWS = 2
KEYS_AND_VALUES = 2
CONV_PAST_FRAMES = 2  # that the estimator's convolutions look at before a frame
SLAB_FRAMES = 32  # capacities are multiples of it, so that streams can use each other's slabs
UTTERANCE_ROWS = 60 * ROW_RATE_HZ  # the encoder's cache grows; a stream is counted as a minute
WORKSPACE_BYTES = 2**30  # activations of the widest step, HiFT's, and what the allocator wastes
JOINED_PROMPT_ROWS = 10 * ROW_RATE_HZ  # batches are planned for streams with such prompts
RECORDED_PROMPT_FRAMES = 768  # at least: longer passes compute so much that launches hardly count
CHUNK_FRAMES, CHUNK_UNIT = 128, 16  # up to so many new frames, sizes are multiples of the unit
PROMPT_UNIT = 64  # beyond: a prompt of six seconds is padded by a twentieth
RECORDS = 64  # what a service meets often; a new one costs about one step that is not recorded
RECORD_BYTES = 2**21  # of the device, for a recorded step of some 200 launches
ENCODER_RECORDS = 64  # sizes of the encoder's chunks, see `encoder_records`
ENCODER_RECORD_BYTES = 2**22  # of the device, for some 350 launches
LEAST_PAST_ROWS, MOST_PAST_ROWS = 128, 2048  # before a recorded chunk: 5 to 80 s
JOINED_PAST_ROWS = 1024  # before those of a full batch
END_UNIT_ROWS = 16  # rows of an utterance's end are multiples of it, the rest is hidden
STEP_ROW_BYTES = 64  # of a step's tensors at once, for each of a frame's hidden numbers
HIFT_RECORDS = 96  # sizes of HiFT's chunks and of utterances' ends, see `hift_records`
HIFT_RECORD_BYTES = 2**22  # of the device, for some 300 launches
HIFT_FRAME_BYTES = 2**19  # activations, noise and phase of a frame in the widest record
HIFT_PAST_FRAMES = 16  # that HiFT runs again before a chunk, see `hift_stream`


@dataclass(frozen=True, slots=True)
class SlabShape:
    """Sizes of the estimator's keys and values in one stream.

    value_bytes: of one number; two where steps are recorded.
    """

    steps: int
    blocks: int
    heads: int
    head_width: int
    width: int
    value_bytes: int = FLOAT_BYTES

    @classmethod
    def of(cls, config: EstimatorConfig, steps: int, value_bytes: int = FLOAT_BYTES) -> SlabShape:
        """Of an estimator that is run for `steps` Euler steps."""
        heads = (config.num_heads, config.head_dim, config.hidden_size)
        return cls(steps, config.depth, *heads, value_bytes)

    @property
    def _frame_values(self) -> int:
        per_block = KEYS_AND_VALUES * GUIDANCE_ROWS * self.heads * self.head_width
        return self.steps * self.blocks * per_block

    @property
    def frame_bytes(self) -> int:
        """Bytes of one cached mel frame."""
        return self._frame_values * self.value_bytes

    def kept_bytes(self, n_frames: int) -> int:
        """Bytes of so many frames as a `VoiceState` holds them."""
        return n_frames * self._frame_values * HALF_BYTES

    def sizes(self, capacity: int) -> tuple[int, ...]:
        """Of a slab: [steps, blocks, 2, 2, H, capacity, C]."""
        outer = (self.steps, self.blocks, KEYS_AND_VALUES, GUIDANCE_ROWS, self.heads)
        return (*outer, capacity, self.head_width)

    def capacity_frames(self, n_frames: int) -> int:
        """Frames of the slab that holds `n_frames`."""
        return -(-n_frames // SLAB_FRAMES) * SLAB_FRAMES

    def slab_bytes(self, n_frames: int) -> int:
        """Bytes of the slab that holds `n_frames`."""
        return self.capacity_frames(n_frames) * self.frame_bytes


@dataclass(frozen=True, slots=True)
class RecordedSize:
    """Sizes of one recorded Euler step: `streams` in all, `frames` of each, both in buckets.

    How much each one sees of its past is no size: it stands among the numbers that are sent.
    """

    streams: int
    frames: int

    @classmethod
    def of(cls, streams: int, frames: int) -> RecordedSize:
        """The smallest that holds so many streams with so many new frames."""
        rows = joined_streams(streams)
        return cls(rows, _whole(frames, CHUNK_UNIT if frames <= CHUNK_FRAMES else PROMPT_UNIT))


@dataclass(frozen=True, slots=True)
class RecordRoom:
    """What the static tensors of recorded steps hold, at most.

    streams: at once. new: streams times frames of one step.
    """

    streams: int
    new: int

    @classmethod
    def of(cls, frames_per_row: int, chunk_rows: tuple[int, ...], max_batch: int) -> RecordRoom:
        """Room for full batches and for one stream with a prompt of the longest kind."""
        joined = RecordedSize.of(max_batch, max(chunk_rows) * frames_per_row)
        alone = RecordedSize.of(1, RECORDED_PROMPT_FRAMES)
        return cls(joined.streams, max(joined.streams * joined.frames, alone.frames))

    def holds(self, size: RecordedSize) -> bool:
        """Whether a step of this size fits."""
        return size.streams <= self.streams and size.streams * size.frames <= self.new

    def size_bytes(self, slab: SlabShape) -> int:
        """Bytes of the static tensors, of what a step computes in them, and of all records."""
        return self.new * GUIDANCE_ROWS * slab.width * STEP_ROW_BYTES + RECORDS * RECORD_BYTES


@dataclass(frozen=True, slots=True)
class EncoderRoom:
    """What the static tensors of the recorded encoder hold, at most.

    streams: at once. rows: of a chunk and ahead of it. past: streams times rows before.
    """

    streams: int
    rows: int
    past: int

    @classmethod
    def of(cls, chunk_rows: tuple[int, ...], lookahead_rows: int, max_batch: int) -> EncoderRoom:
        """Room for full batches some way into their utterances, and for one stream long after."""
        streams = joined_streams(max_batch)
        rows = _whole(max(chunk_rows) + lookahead_rows, END_UNIT_ROWS) + END_UNIT_ROWS
        return cls(streams, rows, max(streams * JOINED_PAST_ROWS, MOST_PAST_ROWS))

    def holds(self, streams: int, past: int, rows: int) -> bool:
        """Whether a chunk of `rows`, those ahead included, fits."""
        return streams <= self.streams and streams * past <= self.past and rows <= self.rows

    def size_bytes(self, config: EncoderConfig) -> int:
        """Bytes of the static tensors and all records."""
        return self.past * _encoder_row_bytes(config) + ENCODER_RECORDS * ENCODER_RECORD_BYTES


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
        ten seconds are assumed. Recorded steps join nothing and keep half as wide numbers; HiFT's
        chunks are recorded too.
        """
        slab = SlabShape.of(config.estimator, steps, FLOAT_BYTES if room is None else HALF_BYTES)
        rows = JOINED_PROMPT_ROWS + max(chunk_rows) + (recent_frames or 0)
        batch_bytes = max_batch * rows * config.encoder.up_stride * slab.frame_bytes // steps
        if room is not None:
            encoder = EncoderRoom.of(chunk_rows, config.encoder.pre_lookahead_len, max_batch)
            batch_bytes = room.size_bytes(slab) + encoder.size_bytes(config.encoder)
            batch_bytes += _hift_record_bytes(config, chunk_rows, max_batch)
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


def joined_streams(n_streams: int) -> int:
    """Streams of the record that takes so many at once: 1, 2, 3, 4, 6, 8, 12 …"""
    half = 1 << (max(n_streams - 1, 1).bit_length() - 1)
    return next(n for n in (1, half, half * 3 // 2, half * 2) if n >= n_streams)


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
