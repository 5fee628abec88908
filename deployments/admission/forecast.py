"""What becomes of answers that one vocoder has in work, in virtual time.

The chunk that is wanted first is made first, as the decoder's worker does it. Pure arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deployments.admission.costs import ROW_S
from pipeline.serving.listener import BEGIN_S

HELD_ROWS = 4  # the newest rows are heard with the next chunk
HORIZON_S = 12.0  # of virtual time: who does not run dry by then has grown its lead
MOST_CHUNKS = 1_000  # in one forecast


@dataclass(frozen=True, slots=True)
class Course:
    """An answer as it is now. Times are of one monotonic clock."""

    rows: int
    """Still to be made, as far as one can tell."""
    sizes: Sequence[int]
    """Rows of its next chunks; the last one repeats."""
    ready_s: float
    """When the tokens of its next chunk are there."""
    row_drawn_s: float
    """Until each further row is."""
    dry_s: float | None = None
    """When its player has nothing more; None before it has any."""
    whole_due_s: float | None = None
    """When all of it is wanted; None where it is played as it comes."""
    speed: float = 1.0
    """Of the player."""


@dataclass(frozen=True, slots=True)
class Fate:
    """first_s: when its first audio is there, None where it was before. end_s: when all is.

    late_s: the most that a chunk came after the player had run dry; negative is what it had left.
    """

    first_s: float | None
    end_s: float
    late_s: float


class _Run:
    def __init__(self, course: Course) -> None:
        self.left, self.sizes = max(course.rows, 1), list(course.sizes)
        self.ready_s = self.drawn_s = course.ready_s
        self.row_drawn_s = course.row_drawn_s
        self.dry_s, self.whole_due_s, self.speed = course.dry_s, course.whole_due_s, course.speed
        self.first_s: float | None = None
        self.end_s, self.late_s = math.inf, -math.inf
        self.held = HELD_ROWS if course.dry_s is None else 0

    def wanted_s(self) -> float:
        if self.whole_due_s is not None:
            return self.whole_due_s
        return self.ready_s + BEGIN_S if self.dry_s is None else self.dry_s

    def next_rows(self) -> int:
        return min(self.sizes[0], self.left)

    def made(self, rows: int, at_s: float) -> None:
        self.left -= rows
        if len(self.sizes) > 1:
            self.sizes.pop(0)
        heard_s = max(rows - self.held, 1) * ROW_S / self.speed
        self.held = 0
        if self.dry_s is None:
            self.first_s = self.dry_s = at_s
        elif self.whole_due_s is None:
            self.late_s = max(self.late_s, at_s - self.dry_s)
        self.dry_s = max(self.dry_s, at_s) + heard_s
        self.drawn_s += self.next_rows() * self.row_drawn_s
        self.ready_s = max(at_s, self.drawn_s)
        if not self.left:
            self.end_s = at_s

    def goes_on(self, at_s: float) -> None:
        """Beyond what is looked at. Who waits by then will wait on."""
        if self.dry_s is None:
            self.first_s = max(at_s, self.ready_s)
        elif self.whole_due_s is None:
            self.late_s = max(self.late_s, at_s - self.dry_s)

    def fate(self) -> Fate:
        return Fate(self.first_s, self.end_s, self.late_s)


def forecast(
    courses: Sequence[Course], chunk_s: Callable[[int], float], free_s: float
) -> list[Fate]:
    """What becomes of each. free_s: when the vocoder is free. chunk_s: seconds for a chunk.

    Beyond the horizon all are taken to go on alike, one after another.
    """
    runs = [_Run(course) for course in courses]
    left, at_s = list(runs), free_s
    for _ in range(MOST_CHUNKS):
        if not left or at_s > free_s + HORIZON_S:
            break
        at_s = max(at_s, min(run.ready_s for run in left))
        ready = [run for run in left if run.ready_s <= at_s]
        run = min(ready, key=_Run.wanted_s)
        rows = run.next_rows()
        at_s += chunk_s(rows)
        run.made(rows, at_s)
        if not run.left:
            left.remove(run)
    for run in sorted(left, key=_Run.wanted_s):
        run.goes_on(at_s)
        at_s += chunk_s(run.sizes[-1]) * run.left / run.sizes[-1]
        run.end_s = at_s
    return [run.fate() for run in runs]
