# pyright: basic
"""Recorded steps: a CUDA graph for each bucket of slots and of keys.

A replay costs one launch, where a step of 32 layers would cost some thousand.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.stepaudio.recording import Recorder, Replay, StaticInputs

logger = logging.getLogger(__name__)

Step = Callable[[Tensor, Tensor, range, int], Tensor]  # tokens, positions [n], window, keys


class StepGraphs:
    """A recorded step per bucket: powers of two of slots, from slot 0, and of blocks of keys."""

    def __init__(
        self,
        step: Step,
        record: Recorder,
        device: torch.device,
        *,
        slots: range,
        blocks: int,
        block_tokens: int,
    ) -> None:
        """Records every bucket: windows of `slots` slots, the last being all; 1 … `blocks` blocks.

        Writes at position 0 of every slot.
        """
        started_s = time.monotonic()
        self._slots = buckets(slots.start, slots.stop - 1)
        self._keys = [n * block_tokens for n in buckets(1, blocks)]
        self._recorded: dict[tuple[int, int], tuple[StaticInputs, Replay]] = {}
        for n_slots in reversed(self._slots):  # the largest first: the others fit into its memory
            for n_keys in reversed(self._keys):
                inputs = StaticInputs(2, n_slots, device=device)
                rows = inputs.tensor

                def run(rows: Tensor = rows, n: int = n_slots, keys: int = n_keys) -> Tensor:
                    return step(rows[0], rows[1], range(n), keys)

                self._recorded[n_slots, n_keys] = inputs, record(run)
        self.recording_s = time.monotonic() - started_s
        logger.info("recorded %d step graphs in %.1f s", len(self._recorded), self.recording_s)

    def window(self, last: int) -> range:
        """The recorded window that holds slots up to `last`."""
        return range(next(n for n in self._slots if n > last))

    def run(
        self, window: range, tokens: Sequence[int], positions: Sequence[int], n_keys: int
    ) -> Tensor:
        """A token of each slot of the window → the result, valid until the next."""
        keys = next(n for n in self._keys if n >= n_keys)
        inputs, replay = self._recorded[len(window), keys]
        inputs.numbers()[:] = tokens, positions
        inputs.send()
        return replay()


def buckets(first: int, last: int) -> list[int]:
    """Sizes to record: first, then its doubles below last, then last."""
    found = [first]
    while found[-1] < last:
        found.append(min(2 * found[-1], last))
    return found
