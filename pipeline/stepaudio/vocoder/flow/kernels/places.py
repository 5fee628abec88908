"""Where a recorded step finds what belongs to each stream: numbers that its kernels read.

A record is made once for a size; these say, chunk by chunk, which memory it works on. A stream's
keys and values lie in a slab: those of its prompt first, then a ring of its latest frames. Nothing
in the estimator's attention depends on order, so a ring is never put straight.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """One stream, as the kernels read it: int64 each, in this order."""

    slab: int
    """Its slab, in float16 values from the anchor."""
    conv_from: int
    """Last inputs of the convolutions before the chunk, in float32 values from their anchor."""
    conv_to: int
    """Where those of this chunk go."""
    capacity: int
    """Frames that the slab holds."""
    n_first: int
    """Frames before the ring, all of them seen."""
    ring_start: int
    """Of the ring's slots the first that is seen."""
    ring_seen: int
    """Slots seen from there on, those of the new frames included."""
    ring_next: int
    """Slot of the first new frame."""
    n_new: int
    """New frames; those beyond are padding."""


NOBODY = Place(0, 0, 0, 1, 0, 0, 0, 0, 0)  # rows of no stream: nothing is read or written for them
N_PLACE = len(NOBODY)
