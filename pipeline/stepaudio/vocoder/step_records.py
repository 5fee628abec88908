# pyright: basic
"""Euler steps recorded once for each size and replayed: the solver for streams in slabs on a GPU.

One record serves all steps of all chunks of its size: whose memory it works on stands in numbers
that are sent before. Which record a chunk takes depends on sizes alone, never on what is recorded
already. Runs on one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.stepaudio.recording import Recorder, Replay, StaticInputs
from pipeline.stepaudio.vocoder.flow.dit import N_PAST
from pipeline.stepaudio.vocoder.flow.flow import FlowMatching, Schedule, StepCaches, StreamPast
from pipeline.stepaudio.vocoder.flow.half_dit import HALF, HalfEstimator, StepTensors
from pipeline.stepaudio.vocoder.flow.kernels.places import N_PLACE, NOBODY, Place
from pipeline.stepaudio.vocoder.memory_plan import (
    GUIDANCE_ROWS,
    RECORDS,
    RecordedSize,
    RecordRoom,
    SlabShape,
)
from pipeline.stepaudio.vocoder.slab import RingSteps, SlabSteps

COMMON_PROMPT_FRAMES = range(128, 513, 64)  # 2.6 to 10 s; what starts with others is recorded later


class StepRecords:
    """Implements `flow.RecordedSolver`.

    decoder: its estimator's weights are read, some of them copied. shape: of the slabs, which are
    of float16. room: of the static tensors, which all records share.
    """

    def __init__(
        self,
        decoder: FlowMatching,
        schedule: Schedule,
        shape: SlabShape,
        room: RecordRoom,
        record: Recorder,
    ) -> None:
        self._schedule, self._room, self._record = schedule, room, record
        n_mels = decoder.noise.shape[1]
        self._estimator = HalfEstimator(
            decoder.estimator,
            decoder.guidance,
            n_mels,
            schedule.modulations,
            schedule.step_sizes,
        )
        self._static = _Static(shape, room, n_mels, decoder.noise.device)
        self._recorded: OrderedDict[RecordedSize, tuple[StepTensors, Replay]] = OrderedDict()

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that are held here a second time."""
        return self._estimator.packed_bytes

    def record_common(self, chunk_frames: Sequence[int], max_streams: int) -> None:
        """Record what streams meet first: prompts' passes, and chunks of so many together."""
        for prompt in COMMON_PROMPT_FRAMES:
            self._at(RecordedSize.of(1, prompt))
        for frames in chunk_frames:
            for streams in range(1, max_streams + 1):
                self._at(RecordedSize.of(streams, frames))

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
        known = [past for past in pasts if past is not None and past.takes(n_new)]
        if schedule is not self._schedule or len(known) < len(pasts):
            return None
        if not self._room.holds(RecordedSize.of(1, n_new)):
            return None
        mels: list[Tensor] = []
        following: list[StepCaches] = []
        for group in self._groups(known, n_new):
            part = slice(len(following), len(following) + len(group))
            conv = [torch.empty_like(past.conv) for past in group]
            mels.append(self._run(noise[part], condition[part], group, conv, on_step))
            following += [past.followed_by(c, n_new) for past, c in zip(group, conv, strict=True)]
        return torch.cat(mels), following

    def _groups(self, pasts: list[_Past], n_new: int) -> Iterator[list[_Past]]:
        """As many streams at once as the room holds, in order."""
        while pasts:
            sizes = range(len(pasts), 0, -1)
            n = next(n for n in sizes if self._room.holds(RecordedSize.of(n, n_new)))
            yield pasts[:n]
            pasts = pasts[n:]

    def _run(
        self,
        noise: Tensor,
        condition: Tensor,
        pasts: Sequence[_Past],
        conv: Sequence[Tensor],
        on_step: Callable[[], None],
    ) -> Tensor:
        """All steps for one group → mels [B, M, T]; the streams' slabs hold their new frames."""
        n_streams, n_new = len(pasts), condition.shape[2]
        tensors, replay = self._at(RecordedSize.of(n_streams, n_new))
        self._estimator.project(condition, tensors.hidden)
        tensors.x.zero_()
        tensors.x[:n_streams, :n_new] = noise.transpose(1, 2)
        self._static.send(
            [past.place(self._static, to, n_new) for past, to in zip(pasts, conv, strict=True)]
        )
        for _ in self._schedule.step_sizes:
            on_step()
            replay()
        mel = tensors.x[:n_streams, :n_new].transpose(1, 2)
        return mel.clone(memory_format=torch.contiguous_format)  # the next chunk writes over x

    def _at(self, size: RecordedSize) -> tuple[StepTensors, Replay]:
        """The record of a size, made where there is none: that leaves nonsense in the tensors."""
        if size in self._recorded:
            self._recorded.move_to_end(size)
            return self._recorded[size]
        tensors = self._static.at(size)
        self._static.send([])  # warm-ups are nobody's
        replay = self._record(lambda: self._estimator.step(tensors))
        self._recorded[size] = tensors, replay
        if len(self._recorded) > RECORDS:
            self._recorded.popitem(last=False)
        return tensors, replay


class _Static:
    """Memory of the static tensors: every size takes its own from the start of the same rooms."""

    def __init__(
        self, shape: SlabShape, room: RecordRoom, n_mels: int, device: torch.device
    ) -> None:
        self._width, self._n_mels = shape.width, n_mels
        self._hidden = torch.zeros(GUIDANCE_ROWS * room.new * shape.width, device=device)
        self._x = torch.zeros(room.new * n_mels, device=device)
        self._inputs = StaticInputs(1 + room.streams * N_PLACE, device=device)
        self.slab_anchor = torch.zeros(1, dtype=HALF, device=device)
        self.conv_anchor = torch.zeros(1, device=device)

    def at(self, size: RecordedSize) -> StepTensors:
        n_rows, n_frames = size.streams, size.frames
        n_values = n_rows * n_frames
        return StepTensors(
            self._x[: n_values * self._n_mels].view(n_rows, n_frames, self._n_mels),
            self._hidden[: GUIDANCE_ROWS * n_values * self._width].view(-1, n_frames, self._width),
            self._inputs.tensor,
            self.slab_anchor,
            self.conv_anchor,
        )

    def send(self, places: Sequence[Place]) -> None:
        """Begin at the first step, with these streams' places; all other rows are nobody's."""
        numbers = self._inputs.numbers()
        numbers[0] = 0
        rows = numbers[1:].reshape(-1, N_PLACE)
        rows[: len(places)] = places if places else 0
        rows[len(places) :] = NOBODY
        self._inputs.send()


@dataclass(frozen=True, slots=True)
class _Past:
    """A stream's slab before a chunk: `n_first` frames that it always sees, then its ring.

    n_after: frames that ever went into the ring. n_recent: of them, how many the chunk sees; None
    in the pass of a prompt, which sees nothing but itself.
    """

    slab: Tensor
    conv: Tensor
    n_first: int
    n_after: int
    n_recent: int | None

    @classmethod
    def of(cls, stream: StreamPast) -> _Past | None:
        steps, seen = stream.caches, stream.retention
        if not isinstance(steps, SlabSteps | RingSteps) or steps.slab.dtype != HALF:
            return None
        if seen is None:
            is_empty = isinstance(steps, SlabSteps) and not steps.n_frames
            return cls(steps.slab, steps.conv, 0, 0, None) if is_empty else None
        ring = steps if isinstance(steps, RingSteps) else steps.as_ring(seen.prompt_frames)
        return cls(ring.slab, ring.conv, ring.n_first, ring.n_after, seen.recent_frames)

    @property
    def _ring(self) -> int:
        return self.slab.shape[5] - self.n_first

    def takes(self, n_new: int) -> bool:
        """Whether so many frames more find room in the slab beside those still seen."""
        return n_new >= N_PAST and (self.n_recent or 0) + n_new <= self._ring

    def place(self, static: _Static, conv_to: Tensor, n_new: int) -> Place:
        n_seen = min(self.n_after, self.n_recent or 0)
        return Place(
            slab=_offset(self.slab, static.slab_anchor),
            conv_from=_offset(self.conv, static.conv_anchor),
            conv_to=_offset(conv_to, static.conv_anchor),
            capacity=self.slab.shape[5],
            n_first=self.n_first,
            ring_start=(self.n_after - n_seen) % self._ring,
            ring_seen=n_seen + n_new,
            ring_next=self.n_after % self._ring,
            n_new=n_new,
        )

    def followed_by(self, conv: Tensor, n_new: int) -> SlabSteps | RingSteps:
        if self.n_recent is None:
            return SlabSteps(self.slab, conv, n_new)
        return RingSteps(self.slab, conv, self.n_first, self.n_after + n_new)


def _offset(tensor: Tensor, anchor: Tensor) -> int:
    """In the type's values: what a kernel adds to the anchor's address."""
    return (tensor.data_ptr() - anchor.data_ptr()) // anchor.element_size()
