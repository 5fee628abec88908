# pyright: basic
"""Euler steps recorded once for each size and replayed: the solver for streams in slabs on a GPU.

One record serves all steps of a chunk: a step's modulation and a stream's past are copied into
static tensors, what is new is copied out. Which record a chunk takes depends on sizes alone, never
on what is recorded already. Runs on one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from pipeline.stepaudio.recording import Recorder, Replay
from pipeline.stepaudio.vocoder.flow.flow import FlowMatching, Schedule, StepCaches, StreamPast
from pipeline.stepaudio.vocoder.flow.packed_dit import N_PAST, PackedEstimator, StepTensors
from pipeline.stepaudio.vocoder.memory_plan import (
    GUIDANCE_ROWS,
    KEYS_AND_VALUES,
    RECORDS,
    RecordedSize,
    RecordRoom,
    SlabShape,
)
from pipeline.stepaudio.vocoder.slab import SlabSteps

CONVOLUTIONS = 2  # of a block
COMMON_PROMPT_FRAMES = range(128, 513, 64)  # 2.6 to 10 s; what starts with others is recorded later


class StepRecords:
    """Implements `flow.RecordedSolver`.

    decoder: its estimator's weights are read, some of them copied. room: of the static tensors,
    which all records share.
    """

    def __init__(
        self,
        decoder: FlowMatching,
        schedule: Schedule,
        shape: SlabShape,
        room: RecordRoom,
        record: Recorder,
    ) -> None:
        self._schedule, self._shape, self._room, self._record = schedule, shape, room, record
        n_mels = decoder.noise.shape[1]
        self._estimator = PackedEstimator(decoder.estimator, decoder.guidance, n_mels)
        pairs = zip(schedule.modulations, schedule.step_sizes, strict=True)
        self._modulations = torch.stack([self._estimator.modulation(m, s) for m, s in pairs])
        self._static = _Static(shape, room, n_mels, self._modulations[0])
        self._recorded: OrderedDict[RecordedSize, tuple[StepTensors, Replay]] = OrderedDict()

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that are held here a second time."""
        return self._estimator.packed_bytes + self._modulations.nbytes

    def record_common(self, chunk_frames: Sequence[int], recent_frames: int) -> None:
        """Record what most streams meet first, alone: their prompts' pass and their chunks."""
        for prompt in COMMON_PROMPT_FRAMES:
            for frames in chunk_frames:
                for past in (prompt, prompt + recent_frames):
                    self._at(RecordedSize.of(1, past, frames))
            self._at(RecordedSize.of(1, 0, prompt))

    def __call__(
        self,
        noise: Tensor,
        condition: Tensor,
        schedule: Schedule,
        streams: Sequence[StreamPast],
        on_step: Callable[[], None],
    ) -> tuple[Tensor, list[StepCaches]] | None:
        """See `FlowMatching.replayed`: None for pasts that are in no slab or for sizes too large.

        More streams than the static tensors hold go in several groups.
        """
        n_new = condition.shape[2]
        pasts = [_Past.of(stream) for stream in streams]
        if schedule is not self._schedule or not all(
            past is not None and past.takes(n_new) and self._holds([past], n_new) for past in pasts
        ):
            return None
        mels: list[Tensor] = []
        following: list[StepCaches] = []
        for group in self._groups([past for past in pasts if past is not None], n_new):
            part = slice(len(following), len(following) + len(group))
            mels.append(self._run(noise[part], condition[part], group, on_step))
            following += [past.followed_by(n_new) for past in group]
        return torch.cat(mels), following

    def _holds(self, pasts: Sequence[_Past], n_new: int) -> bool:
        return self._room.holds(_size_of(pasts, n_new))

    def _groups(self, pasts: list[_Past], n_new: int) -> Iterator[list[_Past]]:
        """As many streams at once as the room holds, in order."""
        while pasts:
            n = next(n for n in range(len(pasts), 0, -1) if self._holds(pasts[:n], n_new))
            yield pasts[:n]
            pasts = pasts[n:]

    def _run(
        self,
        noise: Tensor,
        condition: Tensor,
        pasts: Sequence[_Past],
        on_step: Callable[[], None],
    ) -> Tensor:
        """All steps for one group → mels [B, M, T]; the streams' slabs hold their new frames."""
        n_streams, n_new = len(pasts), condition.shape[2]
        tensors, replay = self._at(_size_of(pasts, n_new))
        self._estimator.project(condition, tensors.hidden)
        tensors.x.zero_()
        tensors.x[:n_streams, :n_new] = noise.transpose(1, 2)
        _hide(tensors, pasts, n_new)
        places = [_Place(tensors, i, past, n_new) for i, past in enumerate(pasts)]
        for step, modulation in enumerate(self._modulations):
            on_step()
            tensors.modulation.copy_(modulation)
            for place in places:
                place.put(step)
            replay()
            for place in places:
                place.take(step)
        mel = tensors.x[:n_streams, :n_new].transpose(1, 2)
        return mel.clone(memory_format=torch.contiguous_format)  # the next chunk writes over x

    def _at(self, size: RecordedSize) -> tuple[StepTensors, Replay]:
        """The record of a size, made where there is none: that leaves nonsense in the tensors."""
        if size in self._recorded:
            self._recorded.move_to_end(size)
            return self._recorded[size]
        tensors = self._static.at(size)
        replay = self._record(lambda: self._estimator.step(tensors))
        self._recorded[size] = tensors, replay
        if len(self._recorded) > RECORDS:
            self._recorded.popitem(last=False)
        return tensors, replay


class _Static:
    """Memory of the static tensors: every size takes its own from the start of the same rooms."""

    def __init__(self, shape: SlabShape, room: RecordRoom, n_mels: int, modulation: Tensor) -> None:
        self._shape, self._n_mels = shape, n_mels
        inner = shape.heads * shape.head_width
        rows = GUIDANCE_ROWS * room.new * shape.width
        self._keys = modulation.new_zeros(
            shape.blocks * KEYS_AND_VALUES * GUIDANCE_ROWS * room.keys * inner
        )
        self._conv = modulation.new_zeros(shape.blocks * CONVOLUTIONS * rows)
        self._hidden = modulation.new_zeros(rows)
        self._x = modulation.new_zeros(room.new * n_mels)
        self._bias = modulation.new_zeros(GUIDANCE_ROWS * room.keys)
        self._modulation = modulation.clone()

    def at(self, size: RecordedSize) -> StepTensors:
        shape, rows = self._shape, GUIDANCE_ROWS * size.streams
        return StepTensors(
            x=_start(self._x, size.streams, size.frames, self._n_mels),
            hidden=_start(self._hidden, rows, size.frames, shape.width),
            bias=_start(self._bias, rows, 1, 1, size.keys),
            keys=_start(
                self._keys,
                shape.blocks,
                KEYS_AND_VALUES,
                rows,
                shape.heads,
                size.keys,
                shape.head_width,
            ),
            conv=_start(
                self._conv, shape.blocks, CONVOLUTIONS, rows, N_PAST + size.frames, shape.width
            ),
            modulation=self._modulation,
        )


def _start(memory: Tensor, *sizes: int) -> Tensor:
    return memory[: prod(sizes)].view(sizes)


@dataclass(frozen=True, slots=True)
class _Past:
    """What a stream still sees of its past: the first `n_first` frames and the last `n_recent`."""

    steps: SlabSteps
    n_first: int
    n_recent: int

    @classmethod
    def of(cls, stream: StreamPast) -> _Past | None:
        steps, seen = stream.caches, stream.retention
        if not isinstance(steps, SlabSteps):
            return None
        if seen is None or steps.n_frames <= seen.prompt_frames + seen.recent_frames:
            return cls(steps, steps.n_frames, 0)
        return cls(steps, seen.prompt_frames, seen.recent_frames)

    @property
    def n_kept(self) -> int:
        return self.n_first + self.n_recent

    def takes(self, n_new: int) -> bool:
        """Whether so many frames more find room in the slab."""
        return self.n_kept + n_new <= self.steps.slab.shape[5]

    def followed_by(self, n_new: int) -> SlabSteps:
        return SlabSteps(self.steps.slab, self.steps.conv, self.n_kept + n_new)


def _size_of(pasts: Sequence[_Past], n_new: int) -> RecordedSize:
    return RecordedSize.of(len(pasts), max(past.n_kept for past in pasts), n_new)


def _hide(tensors: StepTensors, pasts: Sequence[_Past], n_new: int) -> None:
    """Bias and zeros for all that is padding; zeros since what is hidden is still multiplied.

    Rows of no stream see everything, all of it zero before the step: none may come out as NaN.
    """
    n_rows, n_keys = len(tensors.x), tensors.keys.shape[4]
    n_past = n_keys - tensors.x.shape[1]
    bias = tensors.bias.view(GUIDANCE_ROWS, n_rows, n_keys)
    bias.zero_()
    for i in range(n_rows):
        start = n_past - pasts[i].n_kept if i < len(pasts) else n_past
        tensors.keys[:, :, i::n_rows, :, :start] = 0
        if i < len(pasts):
            bias[:, i, :start] = -torch.inf
            bias[:, i, n_past + n_new :] = -torch.inf
        else:
            tensors.conv[:, :, i::n_rows, :N_PAST] = 0


class _Place:
    """One stream's rows of the static tensors, and the slab they stand for."""

    def __init__(self, tensors: StepTensors, row: int, past: _Past, n_new: int) -> None:
        n_rows, n_keys = len(tensors.x), tensors.keys.shape[4]
        border = n_keys - tensors.x.shape[1]  # between past and new
        self._past, self._end = past, past.n_kept + n_new
        own = tensors.keys[:, :, row::n_rows, :, border - past.n_kept : border + n_new]
        self._first = own[..., : past.n_first, :]
        self._recent = own[..., past.n_first : past.n_kept, :]
        self._moved = own[..., past.n_first :, :]  # stands elsewhere in the slab, or is new
        conv = tensors.conv[:, :, row::n_rows]
        self._conv_past = conv[..., :N_PAST, :]
        self._conv_next = conv[..., n_new : n_new + N_PAST, :]

    def put(self, step: int) -> None:
        """What the stream sees of a step's past, into the static tensors."""
        past = self._past
        slab = past.steps.slab[step, ..., : past.steps.n_frames, :]
        if past.n_first:
            self._first.copy_(slab[..., : past.n_first, :])
        if past.n_recent:
            self._recent.copy_(slab[..., -past.n_recent :, :])
        self._conv_past.copy_(past.steps.conv[step])

    def take(self, step: int) -> None:
        """What the next chunk needs of a step, out of them."""
        past = self._past
        past.steps.slab[step, ..., past.n_first : self._end, :].copy_(self._moved)
        past.steps.conv[step].copy_(self._conv_next)
