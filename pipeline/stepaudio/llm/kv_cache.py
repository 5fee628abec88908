# pyright: basic
"""The static key/value cache of all slots.

Readers mask the entries behind a slot's length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The weighted sum of values is taken in blocks of this many tokens, so that its order of additions,
# and with it the last bit, does not depend on how long the longest stream in the batch is.
KEY_BLOCK_TOKENS = 256
# Beyond the first block, keys are read in multiples of this, where that changes no bit.
KEY_STEP_TOKENS = 64

# One layer's keys [B·G, head, keys], and its values in blocks [B·G, ≤256, head].
Views = tuple[Tensor, Sequence[Tensor]]


class KeyValueCache:
    """`tensor` [layers, 2, slots, G, capacity, head], 2 being key and value; zeros at first.

    capacity: tokens of a slot, in whole blocks of keys. Slots are given as a range of them, or as
    the number of one on the device, int64 (1,).
    """

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        groups: int,
        context_tokens: int,
        head_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.groups, self.head_size = groups, head_size
        self.capacity = whole_steps(context_tokens, KEY_BLOCK_TOKENS)
        sizes = (2, slots, groups, self.capacity, head_size)  # 2: key, value
        self.tensor = torch.zeros(layers, *sizes, dtype=dtype, device=device)
        self._layer_rows = [self.tensor[at].view(-1, head_size) for at in range(layers)]
        # Row of the flat cache where (slot, kind, group) starts, kind being key or value:
        # ((kind · S + slot) · G + group) · capacity
        heads = torch.arange(2 * slots * groups, device=device) * self.capacity
        self._first_rows = heads.view(2, slots, groups).transpose(0, 1).unsqueeze(1)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values."""
        layer = 2 * self.groups * self.head_size * self.tensor.dtype.itemsize
        return layer * len(self.tensor)

    def rows(self, positions: Tensor, slots: range | Tensor) -> Tensor:
        """Rows of a flat layer where each row's keys, then values, go: int64 (B·T · 2 · G,).

        positions: int64 (B·T,), B being how many slots there are.
        """
        if isinstance(slots, range):
            first_rows = self._first_rows[slots.start : slots.stop]
        else:
            first_rows = self._first_rows.index_select(0, slots)
        return (first_rows + positions.view(len(first_rows), -1, 1, 1)).flatten()

    def write(self, layer: int, qkv: Tensor, rows: Tensor) -> None:
        """Keys and values of qkv [B·T, (heads + 2 · G) · head] into rows of a layer."""
        kept = qkv[:, -2 * self.groups * self.head_size :]
        self._layer_rows[layer].index_copy_(0, rows, kept.reshape(-1, self.head_size))

    def views(self, slots: range | Tensor, n_keys: int) -> Callable[[int], Views]:
        """The first `n_keys` keys and values of some slots, layer by layer."""
        if not isinstance(slots, range):
            return lambda at: self._selected(at, slots, n_keys)
        part = self.tensor[:, :, slots.start : slots.stop, :, :n_keys]
        keys, values = part.flatten(2, 3).unbind(1)
        keys = keys.transpose(2, 3).unbind()
        blocks = [block.unbind() for block in values.split(KEY_BLOCK_TOKENS, 2)]
        return lambda at: (keys[at], [block[at] for block in blocks])

    def _selected(self, layer: int, slot: Tensor, n_keys: int) -> Views:
        keys, values = self.tensor[layer, :, :, :, :n_keys].index_select(1, slot)[:, 0]
        return keys.transpose(1, 2), values.split(KEY_BLOCK_TOKENS, 1)

    @torch.inference_mode()
    def clear(self, slot: int) -> None:
        """Zero a slot."""
        self.tensor[:, :, slot].zero_()

    @torch.inference_mode()
    def saved(self, slot: int, n_tokens: int) -> Tensor:
        """A copy of a slot's first n keys and values: [layers, 2, G, n, head]."""
        return self.tensor[:, :, slot, :, :n_tokens].clone(memory_format=torch.contiguous_format)

    def unpacked(self, bits: NDArray[np.uint8], n_tokens: int) -> Tensor | None:
        """What `saved` gave, from its bytes; None where they are not of so many tokens."""
        if len(bits) != n_tokens * self.token_bytes:
            return None
        sizes = (len(self.tensor), 2, self.groups, n_tokens, self.head_size)
        return torch.tensor(bits).view(self.tensor.dtype).view(sizes).to(self.tensor.device)

    @torch.inference_mode()
    def restore(self, slot: int, saved: Tensor) -> None:
        """Copy the result of `saved` to the start of a slot."""
        self.tensor[:, :, slot, :, : saved.shape[3]] = saved


def whole_steps(n_tokens: int, step: int) -> int:
    """The smallest multiple of `step` that is not below n."""
    return -(-n_tokens // step) * step
