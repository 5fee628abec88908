# pyright: basic
"""The flow's encoder recorded once for each size and replayed, chunks of several streams at once.

A chunk in plain torch is some 300 launches for a millisecond of arithmetic. Pasts are padded in
front to a bucket, the end of an utterance behind; masks hide both. Which record a chunk takes
depends on sizes alone, never on what is recorded already. Runs on one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from pipeline.stepaudio.config import EncoderConfig
from pipeline.stepaudio.recording import Recorder, Replay, StaticInputs
from pipeline.stepaudio.vocoder.flow.conformer import LOOKAHEAD_KERNEL, ConformerCache, StackedCache
from pipeline.stepaudio.vocoder.flow.flow import Encoded, Flow
from pipeline.stepaudio.vocoder.memory_plan import (
    ENCODER_RECORDS,
    END_UNIT_ROWS,
    KEYS_AND_VALUES,
    LEAST_PAST_ROWS,
    EncoderRoom,
    joined_streams,
)

N_NUMBERS = 2  # of a stream: rows before the chunk, rows of it


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """Sizes of one recorded pass: `streams`, `past` rows before, `rows` of the chunk.

    ahead: rows after it; 0 at an utterance's end, where `rows` are a bucket.
    """

    streams: int
    past: int
    rows: int
    ahead: int

    @classmethod
    def of(cls, streams: int, past: int, rows: int, ahead: int) -> EncoderSize:
        """The smallest that holds these."""
        longest = max(LEAST_PAST_ROWS, 1 << max(past - 1, 0).bit_length())
        rows = rows if ahead else -(-rows // END_UNIT_ROWS) * END_UNIT_ROWS
        return cls(joined_streams(streams), longest, rows, ahead)


class EncoderRecords:
    """Implements `flow.RecordedEncoder`. room: of the static tensors, which all records share."""

    def __init__(
        self, flow: Flow, config: EncoderConfig, room: EncoderRoom, record: Recorder
    ) -> None:
        self._flow, self._room, self._record = flow, room, record
        device = flow.encoder_proj.weight.device
        self._static = _Static(config, room, device)
        self._recorded: OrderedDict[EncoderSize, tuple[_Work, Replay]] = OrderedDict()

    def record_common(self, chunk_rows: Sequence[int], max_streams: int) -> None:
        """Record chunks of so many rows, of 1, 2, 3 … streams, behind prompts of some seconds."""
        for rows in chunk_rows:
            for streams in range(1, max_streams + 1):
                self._at(EncoderSize.of(streams, 2 * LEAST_PAST_ROWS, rows, self._ahead))

    @property
    def _ahead(self) -> int:
        return self._flow.lookahead_rows

    def __call__(
        self, rows: Tensor, ahead: Tensor | None, caches: Sequence[Encoded]
    ) -> tuple[Tensor, list[Encoded]] | None:
        """See `Flow.encoded`: None for one stream that is too large, or too few rows ahead."""
        n_ahead = 0 if ahead is None else ahead.shape[1]
        if ahead is not None and n_ahead < self._ahead:
            return None
        pasts = [StackedCache.of(cache) for cache in caches]
        n_rows = rows.shape[1]
        size = EncoderSize.of(
            len(pasts), max(past.n_rows for past in pasts), n_rows, min(n_ahead, self._ahead)
        )
        if not self._room.holds(size.streams, size.past, size.rows + size.ahead):
            return self._halves(rows, ahead, pasts)
        work, replay = self._at(size)
        work.put(rows, ahead, pasts)
        mu = replay()[: len(pasts), : n_rows * self._flow.frames_per_row]
        return mu, list(work.taken(pasts, n_rows))

    def _halves(
        self, rows: Tensor, ahead: Tensor | None, pasts: Sequence[StackedCache]
    ) -> tuple[Tensor, list[Encoded]] | None:
        """Streams that are too many for the room at once, far into their utterances."""
        if len(pasts) == 1:
            return None
        half, done = len(pasts) // 2, []
        for part in (slice(half), slice(half, None)):
            replayed = self(rows[part], ahead if ahead is None else ahead[part], pasts[part])
            if replayed is None:
                return None
            done.append((replayed[0].clone(), replayed[1]))  # the next replay writes over it
        return torch.cat([mu for mu, _ in done]), [one for _, after in done for one in after]

    def _at(self, size: EncoderSize) -> tuple[_Work, Replay]:
        if size in self._recorded:
            self._recorded.move_to_end(size)
            return self._recorded[size]
        work = _Work(self._flow, size, self._static)
        work.send([])  # warm-ups are nobody's
        replay = self._record(work)
        self._recorded[size] = work, replay
        if len(self._recorded) > ENCODER_RECORDS:
            self._recorded.popitem(last=False)
        return work, replay


class _Work:
    """One recorded pass on its static tensors."""

    def __init__(self, flow: Flow, size: EncoderSize, static: _Static) -> None:
        self._flow, self._size = flow, size
        self._stride = flow.frames_per_row
        self._ids = static.ids(size)
        self._numbers = static.numbers
        self._rows, self._frames = static.blocks(size)
        self._lookahead, self._upsample = static.edges(size)
        places = torch.arange(size.past + size.rows, device=self._ids.device)
        self._places = places[None]
        self._new: StackedCache | None = None

    def put(self, rows: Tensor, ahead: Tensor | None, pasts: Sequence[StackedCache]) -> None:
        """What differs from chunk to chunk; rows of no stream keep what they hold."""
        n, n_rows, size = len(pasts), rows.shape[1], self._size
        self._ids[:n, :n_rows] = rows
        if ahead is not None:
            self._ids[:n, n_rows:] = ahead[:, : size.ahead]
        for i, past in enumerate(pasts):
            if past.n_rows:
                self._rows[:, i, :, size.past - past.n_rows :] = past.rows[:, 0]
                self._frames[:, i, :, self._stride * (size.past - past.n_rows) :] = past.frames[
                    :, 0
                ]
        torch.cat([past.lookahead for past in pasts], out=self._lookahead[:n])
        torch.cat([past.upsample for past in pasts], out=self._upsample[:n])
        self.send([(past.n_rows, n_rows) for past in pasts])

    def send(self, numbers: Sequence[tuple[int, int]]) -> None:
        """Rows before and of the chunk, of each stream; those of no stream have no past."""
        host = self._numbers.numbers().reshape(-1, N_NUMBERS)
        host[: len(numbers)] = numbers if numbers else 0
        host[len(numbers) :] = (0, self._size.rows)
        self._numbers.send()

    def __call__(self) -> Tensor:
        size = self._size
        numbers = self._numbers.tensor.view(-1, N_NUMBERS)[: size.streams]
        n_past, n_rows = numbers[:, :1], numbers[:, 1:]
        visible = (self._places >= size.past - n_past) & (self._places < size.past + n_rows)
        cache = ConformerCache(
            self._lookahead, self._upsample, _pairs(self._rows), _pairs(self._frames)
        )
        ahead = self._ids[:, size.rows :] if size.ahead else None
        mu, after = self._flow.mu(self._ids[:, : size.rows], ahead, cache, visible)
        self._new = StackedCache(
            after.lookahead,
            after.upsample,
            torch.stack([t[:, :, size.past :] for pair in after.row_blocks for t in pair]),
            torch.stack(
                [t[:, :, self._stride * size.past :] for pair in after.frame_blocks for t in pair]
            ),
        )
        return mu

    def taken(self, pasts: Sequence[StackedCache], n_rows: int) -> Sequence[StackedCache]:
        """Each stream's next past; the record's own tensors are written over by the next chunk."""
        assert self._new is not None
        new, n_frames = self._new, self._stride * n_rows
        lookahead, upsample = new.lookahead.clone(), new.upsample.clone()
        return [
            StackedCache(
                lookahead[i : i + 1],
                upsample[i : i + 1],
                torch.cat((past.rows, new.rows[:, i : i + 1, :, :n_rows]), dim=3),
                torch.cat((past.frames, new.frames[:, i : i + 1, :, :n_frames]), dim=3),
            )
            for i, past in enumerate(pasts)
        ]


def _pairs(stacked: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    parts = stacked.unbind(0)
    return tuple(zip(parts[::2], parts[1::2], strict=True))


class _Static:
    """Memory of the static tensors: every size takes its own from the start of the same rooms."""

    def __init__(self, config: EncoderConfig, room: EncoderRoom, device: torch.device) -> None:
        self._config = config
        self._row_sizes = (KEYS_AND_VALUES * config.num_blocks, config.attention_heads)
        self._frame_sizes = (KEYS_AND_VALUES * config.num_up_blocks, config.attention_heads)
        self._head_width = config.output_size // config.attention_heads
        per_past = config.output_size * room.past
        self._rows = torch.zeros(self._row_sizes[0] * per_past, device=device)
        self._frames = torch.zeros(
            self._frame_sizes[0] * config.up_stride * per_past, device=device
        )
        self._ids = torch.zeros(room.streams * room.rows * 2, dtype=torch.int64, device=device)
        n_edge = room.streams * config.output_size
        self._lookahead = torch.zeros(n_edge * (LOOKAHEAD_KERNEL - 1), device=device)
        self._upsample = torch.zeros(n_edge * 2 * config.up_stride, device=device)
        self.numbers = StaticInputs(room.streams * N_NUMBERS, device=device)

    def ids(self, size: EncoderSize) -> Tensor:
        return _start(self._ids, size.streams, size.rows + size.ahead, 2)

    def blocks(self, size: EncoderSize) -> tuple[Tensor, Tensor]:
        """Keys and values of rows and of frames, [2 * blocks, B, H, past, C] each."""
        n_row_blocks, heads = self._row_sizes
        n_frame_blocks, _ = self._frame_sizes
        n_frames, width = size.past * self._config.up_stride, self._head_width
        return (
            _start(self._rows, n_row_blocks, size.streams, heads, size.past, width),
            _start(self._frames, n_frame_blocks, size.streams, heads, n_frames, width),
        )

    def edges(self, size: EncoderSize) -> tuple[Tensor, Tensor]:
        width, stride = self._config.output_size, self._config.up_stride
        return (
            _start(self._lookahead, size.streams, width, LOOKAHEAD_KERNEL - 1),
            _start(self._upsample, size.streams, width, 2 * stride),
        )


def _start(memory: Tensor, *sizes: int) -> Tensor:
    return memory[: prod(sizes)].view(sizes)
