# pyright: basic
"""Euler steps on a CPU, straight on the streams' slabs: the solver where a launch costs nothing.

A chunk's keys and values are written where its past lies and read from there; no cache is joined,
split or copied. Streams go one after another, so none can see what runs beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.stepaudio.vocoder.flow.cpu_dit import CpuEstimator, StepRows
from pipeline.stepaudio.vocoder.flow.dit import N_PAST
from pipeline.stepaudio.vocoder.flow.flow import (
    FlowMatching,
    Schedule,
    StepCaches,
    StreamPast,
    no_check,
)
from pipeline.stepaudio.vocoder.slab import SlabSteps, roomy
from pipeline.stepaudio.vocoder.voice_state import VoiceState


class DirectSteps:
    """Implements `flow.RecordedSolver`. decoder: its estimator's weights are read, some copied."""

    def __init__(self, decoder: FlowMatching, schedule: Schedule) -> None:
        self._schedule, self._decoder = schedule, decoder
        n_mels = decoder.noise.shape[1]
        self._estimator = CpuEstimator(decoder.estimator, decoder.guidance, n_mels)
        pairs = zip(schedule.modulations, schedule.step_sizes, strict=True)
        self._steps = [StepRows.of(modulation, size) for modulation, size in pairs]

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that are held here a second time."""
        return self._estimator.packed_bytes + sum(step.n_bytes for step in self._steps)

    def __call__(
        self,
        noise: Tensor,
        condition: Tensor,
        schedule: Schedule,
        streams: Sequence[StreamPast],
        on_step: Callable[[], None],
    ) -> tuple[Tensor, list[StepCaches]] | None:
        """See `FlowMatching.replayed`: None for pasts that are in no slab."""
        if schedule is not self._schedule:
            return None
        if not all(isinstance(stream.caches, SlabSteps) for stream in streams):
            return None
        done = [
            self._chunk(noise[i : i + 1], condition[i : i + 1], stream, on_step)
            for i, stream in enumerate(streams)
        ]
        return torch.cat([mel for mel, _ in done]), [steps for _, steps in done]

    def whole(
        self, condition: Tensor, state: VoiceState, on_step: Callable[[], None] = no_check
    ) -> Tensor:
        """All that follows a voice's prompt, [1, 3M, T], at once → mel [1, M, T]; keeps nothing."""
        n_past, n_new = state.n_frames, condition.shape[2]
        _, blocks, pair, rows, heads, _, width = state.keys.shape
        keys = condition.new_empty(blocks, pair, rows, heads, n_past + n_new, width)
        noise = self._decoder.noise_at(n_past, n_new)
        work = self._estimator.workspace(noise, condition, n_past + n_new)
        for i, step in enumerate(self._steps):
            on_step()
            keys[..., :n_past, :] = state.keys[i]
            work.conv[..., :N_PAST, :] = state.conv[i]
            self._estimator.step(work, keys, step)
        return work.x.transpose(1, 2)

    def _chunk(
        self, noise: Tensor, condition: Tensor, stream: StreamPast, on_step: Callable[[], None]
    ) -> tuple[Tensor, SlabSteps]:
        steps, seen, n_new = stream.caches, stream.retention, condition.shape[2]
        assert isinstance(steps, SlabSteps)
        n_past, n_first = steps.n_frames, steps.n_frames
        if seen is not None and n_past > seen.prompt_frames + seen.recent_frames:
            n_first, n_past = seen.prompt_frames, seen.prompt_frames + seen.recent_frames
        steps = roomy(steps, n_past + n_new)
        work = self._estimator.workspace(noise, condition, n_past + n_new)
        for i, step in enumerate(self._steps):
            on_step()
            slab, conv = steps.slab[i], steps.conv[i]
            if n_first < n_past:  # what is forgotten lies between: the newest move up
                start = steps.n_frames - (n_past - n_first)
                recent = slab[..., start : steps.n_frames, :]
                slab[..., n_first:n_past, :] = recent if start >= n_past else recent.clone()
            work.conv[..., :N_PAST, :] = conv
            self._estimator.step(work, slab[..., : n_past + n_new, :], step)
            conv.copy_(work.conv[..., n_new:, :])
        following = SlabSteps(steps.slab, steps.conv, n_past + n_new)
        return work.x.transpose(1, 2), following
