# pyright: basic
"""What the vocoder derives from a voice alone: the flow's caches behind its prompt.

The prompt is run without the answer, so the state is the same whatever is spoken next, and may be
kept. Knows no stream, no store and no owner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.stepaudio.vocoder.flow.conformer import ConformerCache
from pipeline.stepaudio.vocoder.flow.flow import FlowCache
from pipeline.stepaudio.vocoder.slab import SlabSteps

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
        return cls(cache.encoder, keys, steps.conv.clone())

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


def rounded(cache: FlowCache) -> FlowCache:
    """`cache` as it would come back from a VoiceState, in place."""
    steps = cache.estimator
    assert isinstance(steps, SlabSteps)
    for step in steps.slab[..., : steps.n_frames, :]:  # a copy of all would not fit everywhere
        step.copy_(step.to(KEPT_TYPE))
    return cache
