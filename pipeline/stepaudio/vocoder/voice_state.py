# pyright: basic
"""What the vocoder derives from a voice alone: the flow's caches behind its prompt.

The prompt is run without the answer, so the state is the same whatever is spoken next, and may be
kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.stepaudio.config import EncoderConfig
from pipeline.stepaudio.fingerprints import content_fingerprint
from pipeline.stepaudio.vocoder.flow.conformer import LOOKAHEAD_KERNEL, ConformerCache
from pipeline.stepaudio.vocoder.flow.dit import N_PAST
from pipeline.stepaudio.vocoder.flow.flow import FlowCache, by_block
from pipeline.stepaudio.vocoder.memory_plan import GUIDANCE_ROWS, SlabShape
from pipeline.stepaudio.vocoder.slab import SlabSteps

STATE_VERSION = 2  # raise when the same weights make another state: kept ones are not read then
KEPT_TYPE = torch.float16  # of keys and values: half the bytes, an error of 5e-4 of a value


@dataclass(frozen=True, slots=True, eq=False)
class VoiceState:
    """A voice's `FlowCache` in its lasting form.

    encoder: as it came, a tenth of the whole. keys: float16 [steps, blocks, 2, 2, H, frames, C],
    as in a slab. conv: float32 [steps, blocks, 2, 2, kernel - 1, D], see SlabSteps. A stream that
    just made a state reads it back, so that it says what one says that found it.
    """

    encoder: ConformerCache
    keys: Tensor
    conv: Tensor

    @classmethod
    def of(cls, cache: FlowCache) -> VoiceState:
        """A copy of caches behind a prompt; they lie in a slab."""
        steps = cache.estimator
        assert isinstance(steps, SlabSteps)
        keys = steps.slab[..., : steps.n_frames, :].to(KEPT_TYPE, copy=True)
        keys = keys.contiguous()
        encoder = by_block(cache.encoder)
        assert encoder is not None
        return cls(encoder, keys, steps.conv.clone())

    @property
    def n_frames(self) -> int:
        """Mel frames of the prompt."""
        return self.keys.shape[5]

    def placed(self, slab: Tensor | None) -> FlowCache:
        """Caches for one stream, in its slab; without one in memory of their own."""
        n = self.n_frames
        if slab is None:
            slab = self.keys.to(torch.float32)
        else:
            slab[..., :n, :] = self.keys
        return FlowCache(self.encoder, SlabSteps(slab, self.conv.clone(), n), n, n)


@dataclass(frozen=True, slots=True, eq=False)
class StateArrays:
    """A VoiceState in two rows of numbers, for a store that knows no tensors.

    keys: int16, the bits of its float16 keys and values. rest: float32, all else in a row.
    """

    keys: NDArray[np.int16]
    rest: NDArray[np.float32]

    @classmethod
    def of(cls, state: VoiceState) -> StateArrays:
        """Views where they can be."""
        rest = torch.cat([part.flatten() for part in (state.conv, *_parts(state.encoder))])
        return cls(state.keys.flatten().view(torch.int16).cpu().numpy(), rest.cpu().numpy())


@dataclass(frozen=True, slots=True)
class StateShape:
    """Sizes of the states of a decoder's voices; all follow from the number of frames."""

    slab: SlabShape
    encoder: EncoderConfig

    def state(self, arrays: StateArrays, n_frames: int, device: torch.device) -> VoiceState | None:
        """What `arrays` hold, copied; None when it is not a state of so many frames."""
        conv = (self.slab.steps, self.slab.blocks, 2, GUIDANCE_ROWS, N_PAST, self.slab.width)
        shapes = [conv, *self._encoder_shapes(n_frames)]
        keys = self.slab.sizes(n_frames)
        sizes = [prod(shape) for shape in shapes]
        if len(arrays.keys) != prod(keys) or len(arrays.rest) != sum(sizes):
            return None
        rest = torch.tensor(arrays.rest, device=device).split(sizes)
        first, *parts = (part.view(shape) for part, shape in zip(rest, shapes, strict=True))
        bits = torch.tensor(arrays.keys, device=device).view(KEPT_TYPE)
        return VoiceState(self._encoder(parts), bits.view(keys), first)

    def _encoder_shapes(self, n_frames: int) -> list[tuple[int, ...]]:
        config = self.encoder
        heads, width, stride = config.attention_heads, config.output_size, config.up_stride
        rows = (1, heads, n_frames // stride, width // heads)
        frames = (1, heads, n_frames, width // heads)
        lookahead, upsample = (1, width, LOOKAHEAD_KERNEL - 1), (1, width, 2 * stride)
        blocks = [rows] * (2 * config.num_blocks) + [frames] * (2 * config.num_up_blocks)
        return [lookahead, upsample, *blocks]

    def _encoder(self, parts: Sequence[Tensor]) -> ConformerCache:
        """The inverse of `_parts`."""
        lookahead, upsample, *tensors = parts
        blocks = tuple(zip(tensors[::2], tensors[1::2], strict=True))
        n_rows = self.encoder.num_blocks
        return ConformerCache(lookahead, upsample, blocks[:n_rows], blocks[n_rows:])


def _parts(cache: ConformerCache) -> list[Tensor]:
    pairs = (*cache.row_blocks, *cache.frame_blocks)
    return [cache.lookahead, cache.upsample, *(part for pair in pairs for part in pair)]


def state_fingerprint(vocoder_dir: Path, makers: Sequence[object]) -> str:
    """Hex BLAKE3 over the flow's files and whatever else decides a state's bits."""
    files = (vocoder_dir / "cosyvoice.yaml", vocoder_dir / "flow.pt")
    return content_fingerprint((STATE_VERSION, *makers), files)


class StateShelf(Protocol):
    """Where the state of one voice outlives the process. Whatever goes wrong there is a miss."""

    async def find(self) -> StateArrays | None:
        """What any process made of this voice; soon, or not at all."""
        ...

    def keep(self, arrays: StateArrays) -> None:
        """Put it there in the background."""
        ...


def rounded(cache: FlowCache) -> FlowCache:
    """`cache` as it would come back from a VoiceState, in place."""
    steps = cache.estimator
    assert isinstance(steps, SlabSteps)
    for step in steps.slab[..., : steps.n_frames, :]:  # a copy of all would not fit everywhere
        step.copy_(step.to(KEPT_TYPE))
    return cache
