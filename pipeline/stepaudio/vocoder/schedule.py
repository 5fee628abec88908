"""How many token rows each chunk of a stream has."""

from __future__ import annotations

CHUNK_ROWS = (15, 24, 48)  # 0.6, 0.96, then 1.92 s each
MIN_FIRST_ROWS = 5  # HiFT holds four rows back: a smaller first chunk would make no sound


def chunk_schedule(chunk_rows: tuple[int, ...], first_rows: int | None) -> tuple[int, ...]:
    """`chunk_rows` with another first chunk.

    A smaller one is followed by chunks that double until they reach the schedule: each is computed
    while the one before it plays.
    """
    if first_rows is None:
        return chunk_rows
    first = max(first_rows, MIN_FIRST_ROWS)
    if first >= chunk_rows[0]:
        return (first, *(chunk_rows[1:] or chunk_rows))
    ramp = [first]
    while ramp[-1] * 2 < chunk_rows[0]:
        ramp.append(ramp[-1] * 2)
    return (*ramp, *chunk_rows)
