# pyright: basic
"""Recorded prefill chunks: a CUDA graph for each bucket of rows and of keys.

Slot and position are inputs like the tokens, so one record serves every slot. Rows behind a chunk's
end run on an arbitrary token; their keys and values are overwritten later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.contracts import Int32Array
from pipeline.stepaudio.llm.step_graphs import buckets
from pipeline.stepaudio.recording import Recorder, Replay, StaticInputs

logger = logging.getLogger(__name__)

_LEAST_ROWS = 32  # smaller chunks cost the same: reading the weights
_PLACE = 2  # further inputs: the first token's position, and the slot

Chunk = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # tokens [n], start [1], slot [1], keys


class PrefillGraphs:
    """A recorded chunk per bucket: powers of two of rows, and of blocks of keys.

    A chunk's bucket, and so its bits, depend on its own length and position alone.
    """

    def __init__(
        self,
        chunk: Chunk,
        record: Recorder,
        device: torch.device,
        *,
        most_rows: int,
        blocks: int,
        block_tokens: int,
    ) -> None:
        """Records chunks of up to `most_rows` rows over 1 … `blocks` blocks of keys, in slot 0."""
        started_s = time.monotonic()
        self._rows = buckets(min(_LEAST_ROWS, most_rows), most_rows)
        self._keys = [n * block_tokens for n in buckets(1, blocks)]
        self._recorded: dict[tuple[int, int], tuple[StaticInputs, Replay]] = {}
        for n_rows in reversed(self._rows):  # the largest first: the others fit into its memory
            inputs = StaticInputs(n_rows + _PLACE, device=device)
            tokens, start, slot = inputs.tensor.split((n_rows, 1, 1))
            for n_keys in reversed(self._keys):

                def run(
                    tokens: Tensor = tokens,
                    start: Tensor = start,
                    slot: Tensor = slot,
                    keys: int = n_keys,
                ) -> Tensor:
                    return chunk(tokens, start, slot, keys)

                self._recorded[n_rows, n_keys] = inputs, record(run)
        self.recording_s = time.monotonic() - started_s
        logger.info("recorded %d prefill graphs in %.1f s", len(self._recorded), self.recording_s)

    @property
    def most_rows(self) -> int:
        """The longest recorded chunk."""
        return self._rows[-1]

    def run(self, slot: int, ids: Int32Array, start: int) -> None:
        """Run ids (n,), at most `most_rows`, at positions start … start + n − 1 of a slot."""
        rows = next(n for n in self._rows if n >= len(ids))
        keys = next(n for n in self._keys if n >= start + len(ids))
        inputs, replay = self._recorded[rows, keys]
        numbers = inputs.numbers()
        numbers[: len(ids)], numbers[len(ids) : rows] = ids, 0
        numbers[rows:] = start, slot
        inputs.send()
        replay()
