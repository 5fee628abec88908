# pyright: basic
"""Memory of the estimator's caches: one slab per stream, taken from a pool and given back.

A chunk's keys and values are written in place behind those of its past; nothing as large as the
cache is allocated per chunk.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.stepaudio.vocoder.flow.dit import CONV_KERNEL, BlockCache, Retention
from pipeline.stepaudio.vocoder.flow.flow import FlowCache, StepCaches
from pipeline.stepaudio.vocoder.memory_plan import GUIDANCE_ROWS, SlabShape


def slab_type(shape: SlabShape) -> torch.dtype:
    """Of the keys and values in slabs of this shape."""
    return {2: torch.float16, 4: torch.float32}[shape.value_bytes]


class SlabPool:
    """Slabs in use, and free ones kept for the next stream. For any thread.

    max_bytes: free ones are kept while all slabs together stay below; the oldest go first.
    """

    def __init__(self, shape: SlabShape, device: torch.device, max_bytes: int) -> None:
        self.shape = shape
        self._device, self._dtype = device, slab_type(shape)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._free: list[Tensor] = []
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of the slabs that streams hold."""
        return self._used_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of all slabs, free ones included."""
        with self._lock:
            return self._held_bytes()

    def take(self, n_frames: int) -> Tensor:
        """A slab for at least `n_frames`, its content undefined.

        [steps, blocks, 2, 2, H, capacity, C]: keys and values, guided and unguided row.
        """
        capacity = self.shape.capacity_frames(n_frames)
        with self._lock:
            fitting = (i for i, slab in enumerate(self._free) if slab.shape[5] == capacity)
            i = next(fitting, None)
            slab = None if i is None else self._free.pop(i)
            if slab is None:
                self._make_room(self.shape.slab_bytes(capacity))
        slab = self._made(capacity) if slab is None else slab
        with self._lock:
            self._used_bytes += slab.nbytes
        return slab

    def give(self, slab: Tensor) -> None:
        """Take a slab back; nothing may look at it any more."""
        with self._lock:
            self._used_bytes -= slab.nbytes
            self._free.append(slab)
            self._make_room(0)

    def _made(self, capacity: int) -> Tensor:
        sizes = self.shape.sizes(capacity)
        try:
            return torch.empty(sizes, dtype=self._dtype, device=self._device)
        except RuntimeError:  # out of memory: free ones of other sizes may be in the way
            with self._lock:
                self._free.clear()
            return torch.empty(sizes, dtype=self._dtype, device=self._device)

    def _make_room(self, size_bytes: int) -> None:
        while self._free and self._held_bytes() + size_bytes > self._max_bytes:
            self._free.pop(0)

    def _held_bytes(self) -> int:
        return self._used_bytes + sum(slab.nbytes for slab in self._free)


@dataclass(frozen=True, slots=True)
class SlabBlock(BlockCache):
    """A block's past whose keys and values are the start of rooms in a slab.

    key_room, value_room: [2, H, capacity, C].
    """

    key_room: Tensor
    value_room: Tensor

    def extended(
        self, keys: Tensor, values: Tensor, retention: Retention | None
    ) -> tuple[Tensor, Tensor]:
        """Writes into the rooms: what this cache held before is gone."""
        return (
            _extended(self.key_room, self.keys, keys, retention),
            _extended(self.value_room, self.values, values, retention),
        )

    def followed_by(
        self, keys: Tensor, values: Tensor, conv_in: Tensor, conv_out: Tensor
    ) -> BlockCache:
        n = keys.shape[2]
        if n > self.key_room.shape[2]:  # it outgrew its room
            return BlockCache(keys, values, conv_in, conv_out)
        k, v = self.key_room, self.value_room
        return SlabBlock(k[:, :, :n], v[:, :, :n], conv_in, conv_out, k, v)


def _extended(room: Tensor, cached: Tensor, new: Tensor, retention: Retention | None) -> Tensor:
    """`cached`, the start of `room`, trimmed and followed by `new`, in place.

    A copy where the room is too small, or of another type than `new`.
    """
    n_kept = cached.shape[2]
    if retention is not None:
        *_, recent = parts = retention.select(cached)
        if len(parts) > 1:
            n_kept = sum(part.shape[2] for part in parts)
            room[:, :, n_kept - recent.shape[2] : n_kept] = recent.clone()  # the two may overlap
    end = n_kept + new.shape[2]
    if end > room.shape[2]:
        return torch.cat((room[:, :, :n_kept].to(new.dtype), new), dim=2)
    room[:, :, n_kept:end] = new
    return room[:, :, :end].to(new.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class SlabSteps(Sequence[tuple[BlockCache, ...]]):
    """The past of all Euler steps in one slab, for whoever takes a step's blocks at once.

    slab: as `SlabPool.take` gives it. conv: [steps, blocks, 2, 2, kernel - 1, D], last inputs of
    both convolutions, guided and unguided row. n_frames: of the slab, from its start, that count.
    """

    slab: Tensor
    conv: Tensor
    n_frames: int

    def __len__(self) -> int:
        return len(self.slab)

    def __getitem__(self, step: int) -> tuple[BlockCache, ...]:  # pyright: ignore[reportIncompatibleMethodOverride] the solver takes no slices
        n = self.n_frames
        return tuple(
            SlabBlock(k[:, :, :n], v[:, :, :n], conv_in.mT, conv_out.mT, k, v)
            for (k, v), (conv_in, conv_out) in zip(self.slab[step], self.conv[step], strict=True)
        )

    def as_ring(self, n_first: int) -> RingSteps:
        """The same frames: the first ones, and the others as the beginning of a ring."""
        return RingSteps(self.slab, self.conv, n_first, self.n_frames - n_first)


@dataclass(frozen=True, slots=True, eq=False)
class RingSteps(Sequence[tuple[BlockCache, ...]]):
    """The past of all Euler steps in one slab that is written round and round.

    slab, conv: as of SlabSteps. n_first: frames at the slab's start that stay. n_after: frames that
    ever followed; the i-th lies in slot i of the rest, modulo its size.
    """

    slab: Tensor
    conv: Tensor
    n_first: int
    n_after: int

    def __len__(self) -> int:
        return len(self.slab)

    def __getitem__(self, step: int) -> tuple[BlockCache, ...]:  # pyright: ignore[reportIncompatibleMethodOverride] the solver takes no slices
        """Copies in order, for whoever knows no ring."""
        ring = self.slab.shape[5] - self.n_first
        after = torch.arange(max(self.n_after - ring, 0), self.n_after) % ring + self.n_first
        order = torch.cat((torch.arange(self.n_first), after)).to(self.slab.device)
        frames = self.slab[step].index_select(4, order)
        return tuple(
            BlockCache(k, v, conv_in.mT, conv_out.mT)
            for (k, v), (conv_in, conv_out) in zip(frames, self.conv[step], strict=True)
        )


def roomy(steps: SlabSteps, n_frames: int) -> SlabSteps:
    """`steps`, in a slab of their own where theirs does not hold `n_frames`."""
    if n_frames <= steps.slab.shape[5]:
        return steps
    sizes = list(steps.slab.shape)
    sizes[5] = 2 * n_frames  # a past that grows without end is copied now and then
    slab = steps.slab.new_empty(sizes)
    slab[..., : steps.n_frames, :] = steps.slab[..., : steps.n_frames, :]
    return SlabSteps(slab, steps.conv, steps.n_frames)


def empty_caches(slab: Tensor, width: int) -> SlabSteps:
    """Caches of no frames yet in `slab`; width: of the estimator's hidden states."""
    sizes = (*slab.shape[:2], 2, GUIDANCE_ROWS, CONV_KERNEL - 1, width)
    conv = slab.new_zeros(sizes, dtype=torch.float32)  # zeros as before an utterance's start
    return SlabSteps(slab, conv, 0)


def gathered(slab: Tensor | None, cache: FlowCache) -> FlowCache:
    """`cache` as SlabSteps, where its blocks' rooms are those of `slab`; else as it is."""
    steps = cache.estimator
    if isinstance(steps, SlabSteps) or not isinstance(steps[0][0], SlabBlock) or slab is None:
        return cache
    pairs = [torch.stack((b.conv_in, b.conv_out)) for step in steps for b in step]
    conv = torch.stack(pairs).unflatten(0, slab.shape[:2]).mT.contiguous()
    estimator = SlabSteps(slab, conv, steps[0][0].keys.shape[2])
    return FlowCache(cache.encoder, estimator, cache.n_frames, cache.prompt_frames)


def detached(cache: FlowCache) -> FlowCache:
    """`cache` without a slab: a copy of SlabSteps that has no room for more, else as it is."""
    steps = cache.estimator
    if not isinstance(steps, SlabSteps):
        return cache
    frames = steps.slab[..., : steps.n_frames, :].clone(memory_format=torch.contiguous_format)
    copied = SlabSteps(frames, steps.conv.clone(), steps.n_frames)
    return FlowCache(cache.encoder, copied, cache.n_frames, cache.prompt_frames)


def copied_into(slab: Tensor, cache: FlowCache) -> FlowCache:
    """`cache`, which others may share, with its estimator's keys and values copied into `slab`."""
    steps = _copied(slab, cache.estimator)
    return FlowCache(cache.encoder, steps, cache.n_frames, cache.prompt_frames)


def _copied(slab: Tensor, cached: StepCaches) -> StepCaches:
    if isinstance(cached, SlabSteps):
        slab[..., : cached.n_frames, :] = cached.slab[..., : cached.n_frames, :]
        return SlabSteps(slab, cached.conv.clone(), cached.n_frames)
    rooms = empty_caches(slab, cached[0][0].conv_in.shape[1])
    return tuple(
        tuple(
            room.followed_by(
                *room.extended(block.keys, block.values, None), block.conv_in, block.conv_out
            )
            for room, block in zip(step_rooms, step, strict=True)
        )
        for step_rooms, step in zip(rooms, cached, strict=True)
    )
