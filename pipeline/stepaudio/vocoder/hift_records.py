# pyright: basic
"""HiFT's chunks recorded once for each size and replayed, several streams at once on a GPU.

HiFT looks both ways in time: sizes are exact, only rows of a batch are padded, and rows know
nothing of each other. Whether a chunk takes a record depends on its size alone, never on what is
recorded already. Runs on one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from pipeline.stepaudio.recording import Recorder, Replay
from pipeline.stepaudio.vocoder.hift.fourier import FixedFourier
from pipeline.stepaudio.vocoder.hift.generator import Hift
from pipeline.stepaudio.vocoder.hift.stream import (
    CONTEXT_FRAMES,
    FADE_FRAMES,
    HELD_FRAMES,
    HiftState,
    advance,
    chunk_noise,
)
from pipeline.stepaudio.vocoder.memory_plan import CHUNK_FRAMES, HIFT_RECORDS, joined_rows

CARRIED_FRAMES = CONTEXT_FRAMES + HELD_FRAMES  # at most
ALIGNED = 64  # floats: kernels read several at once


@dataclass(frozen=True, slots=True)
class HiftSize:
    """Sizes of one recorded chunk of `rows` streams, all but `tail` (samples) in frames.

    carried, done, tail: of the state's mel, F0 and tail. has_phase: False at the beginning. last:
    nothing is held back.
    """

    rows: int
    carried: int
    done: int
    tail: int
    has_phase: bool
    new: int
    last: bool = False

    @classmethod
    def of(cls, state: HiftState, n_new: int, rows: int = 1, *, last: bool = False) -> HiftSize:
        """Of `rows` streams that stand where this one stands."""
        carried, done, tail = state.mel.shape[2], state.f0.shape[1], state.tail.shape[1]
        return cls(rows, carried, done, tail, state.cycles is not None, n_new, last)


class HiftRecords:
    """Replays `decode_chunk` for chunks of a service's usual lengths, and for utterances' ends.

    chunk_frames: these lengths; longer ones compute so much that launches hardly count.
    max_batch: streams that come at once, at most.
    """

    def __init__(
        self,
        hift: Hift,
        seed: int,
        chunk_frames: Collection[int],
        max_batch: int,
        record: Recorder,
    ) -> None:
        self._hift, self._seed, self._record = hift, seed, record
        self._frames = frozenset(n for n in chunk_frames if n <= CHUNK_FRAMES)
        self._rows = joined_rows(max_batch)
        self._fourier = FixedFourier(hift.n_fft, hift.hop, hift.window)
        longest = max(self._rows * max(self._frames, default=0), CHUNK_FRAMES)  # or one end
        self._static = _Static(hift, self._rows, -(-longest // self._rows))
        self._recorded: OrderedDict[HiftSize, tuple[_Work, Replay]] = OrderedDict()

    def takes(self, mel: Tensor, *, last: bool) -> bool:
        """Whether chunks like this mel [1, M, T] are replayed; an utterance's end is, if short."""
        return mel.shape[2] <= CHUNK_FRAMES if last else mel.shape[2] in self._frames

    def record_common(self, frames: Sequence[int], max_streams: int) -> None:
        """Record what streams meet whose chunks have so many frames: 1, 2, 4... of them at once."""
        rows = 1
        while rows <= min(self._rows, max_streams):
            states: list[HiftState] | None = None
            for n_new in frames:
                mel = self._hift.window.new_zeros(1, self._hift.n_mels, n_new)
                if not self.takes(mel, last=False):
                    break  # what follows starts where no record ends
                states = states or [HiftState.start(mel)] * rows
                states = [state for _, state in self([mel] * rows, states)]
            rows *= 2

    def __call__(
        self, mels: Sequence[Tensor], states: Sequence[HiftState], *, last: bool = False
    ) -> list[tuple[Tensor, HiftState]]:
        """`decode_chunk` of several streams at equal numbers of new frames, see `takes`.

        Samples [1, L] each, in the host's memory, and next states on the device.
        """
        places: dict[HiftSize, list[int]] = {}
        for i, (mel, state) in enumerate(zip(mels, states, strict=True)):
            places.setdefault(HiftSize.of(state, mel.shape[2]), []).append(i)
        results: dict[int, tuple[Tensor, HiftState]] = {}
        for alike in places.values():
            for start in range(0, len(alike), self._rows):
                group = alike[start : start + self._rows]
                parts = [mels[i] for i in group], [states[i] for i in group]
                done = self._run(*parts, last=last)
                results.update(zip(group, done, strict=True))
        return [results[i] for i in range(len(mels))]

    def _run(
        self, mels: Sequence[Tensor], states: Sequence[HiftState], *, last: bool
    ) -> list[tuple[Tensor, HiftState]]:
        n = len(mels)
        work, replay = self._at(HiftSize.of(states[0], mels[0].shape[2], joined_rows(n), last=last))
        pairs = zip(mels, states, strict=True)
        noises = [chunk_noise(self._hift, mel, state, self._seed) for mel, state in pairs]
        work.put(mels, states, noises)
        samples = replay()[:n]
        after = _first_rows(work.after, n)  # a copy: the next chunk may write over it
        samples = samples.to("cpu", copy=True)  # waits: last
        return [
            (samples[i : i + 1], _row(after, i, state.first_frame))
            for i, state in enumerate(states)
        ]

    def _at(self, size: HiftSize) -> tuple[_Work, Replay]:
        """The record of a size, made where there is none: that leaves nonsense in its tensors."""
        if size in self._recorded:
            self._recorded.move_to_end(size)
            return self._recorded[size]
        work = _Work(self._hift, self._fourier, self._static, size)
        self._recorded[size] = work, self._record(work)
        if len(self._recorded) > HIFT_RECORDS:
            self._recorded.popitem(last=False)
        return self._recorded[size]


class _Work:
    """A chunk of one size on static tensors. after: the state behind it, once it has run."""

    def __init__(self, hift: Hift, fourier: FixedFourier, static: _Static, size: HiftSize) -> None:
        self._hift, self._fourier, self._last = hift, fourier, size.last
        self._mel, self._noise, self._state = static.at(size)
        self.after = self._state

    def put(
        self, mels: Sequence[Tensor], states: Sequence[HiftState], noises: Sequence[Tensor]
    ) -> None:
        """What differs from chunk to chunk; rows of no stream keep what they hold."""
        _fill(self._mel, mels)
        _fill(self._noise, noises)
        _fill(self._state.mel, [state.mel for state in states])
        _fill(self._state.f0, [state.f0 for state in states])
        _fill(self._state.tail, [state.tail for state in states])
        if self._state.cycles is not None:
            _fill(self._state.cycles, [s.cycles for s in states if s.cycles is not None])

    def __call__(self) -> Tensor:
        samples, self.after = advance(
            self._hift, self._mel, self._state, self._noise, last=self._last, fourier=self._fourier
        )
        return samples


def _fill(static: Tensor, parts: Sequence[Tensor]) -> None:
    if static.numel():
        torch.cat(list(parts), out=static[: len(parts)])


class _Static:
    """Memory of the static tensors: every size takes its own from the start of the same room."""

    def __init__(self, hift: Hift, rows: int, max_new: int) -> None:
        source = hift.m_source
        self._n_mels, self._source = hift.n_mels, source
        tail = FADE_FRAMES * source.samples_per_frame
        largest = HiftSize(rows, CARRIED_FRAMES, CONTEXT_FRAMES, tail, has_phase=True, new=max_new)
        n_floats = sum(_aligned(prod(sizes)) for sizes in self._shapes(largest))
        self._floats = hift.window.new_zeros(n_floats)
        self._cycles = hift.window.new_zeros((rows, source.n_phases), dtype=torch.float64)

    def at(self, size: HiftSize) -> tuple[Tensor, Tensor, HiftState]:
        """New mel, noise and state of a size."""
        tensors, start = [], 0
        for sizes in self._shapes(size):
            tensors.append(self._floats[start : start + prod(sizes)].view(sizes))
            start += _aligned(prod(sizes))
        new, noise, mel, f0, tail = tensors
        cycles = self._cycles[: size.rows] if size.has_phase else None
        return new, noise, HiftState(mel, 0, f0, cycles, tail)

    def _shapes(self, size: HiftSize) -> list[tuple[int, ...]]:
        rows, n_frames = size.rows, size.carried + size.new
        return [
            (rows, self._n_mels, size.new),
            (rows, *self._source.noise_sizes(n_frames)),
            (rows, self._n_mels, size.carried),
            (rows, size.done),
            (rows, size.tail),
        ]


def _aligned(n: int) -> int:
    return -(-n // ALIGNED) * ALIGNED


def _first_rows(state: HiftState, n: int) -> HiftState:
    """A copy of the first `n` streams' part."""
    cycles = None if state.cycles is None else state.cycles[:n].clone()
    parts = (state.f0[:n].clone(), cycles, state.tail[:n].clone())
    return HiftState(state.mel[:n].clone(), state.first_frame, *parts)


def _row(state: HiftState, i: int, first_frame: int) -> HiftState:
    """One stream's part, whose chunk began at `first_frame`."""
    row = slice(i, i + 1)
    cycles = None if state.cycles is None else state.cycles[row]
    return HiftState(
        state.mel[row], first_frame + state.first_frame, state.f0[row], cycles, state.tail[row]
    )
