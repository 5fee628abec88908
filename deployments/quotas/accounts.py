"""What is counted of whom, and what routers and the cluster's book say to each other of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

MINUTE_S, DAY_S = 60.0, 86_400.0


class Measure(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    AUDIO_MINUTE = "audio_minute"
    AUDIO_DAY = "audio_day"
    STREAMS = "streams"
    """Held, not spent: given back when a reply ends."""

    @property
    def window_s(self) -> float | None:
        """Over how long it is counted; None for what is held."""
        return _WINDOWS_S.get(self)

    @property
    def is_owed(self) -> bool:
        """Whether what was begun may go beyond the limit: how long a reply sounds is not known."""
        return self in {Measure.AUDIO_MINUTE, Measure.AUDIO_DAY}


_WINDOWS_S = {
    Measure.REQUESTS: MINUTE_S,
    Measure.AUDIO_MINUTE: MINUTE_S,
    Measure.AUDIO_DAY: DAY_S,
}


class Account(NamedTuple):
    """owner: a tenant or a key, as the router names it."""

    owner: str
    measure: Measure


class Word(NamedTuple):
    """What a router says of an account. Totals and holdings, so that saying it twice does no harm.

    total: all that it ever spent. recent: of it within the window, for a book that does not know
    the router. taken: reserved for replies on their way. spare: leased, for nobody yet. wanted:
    amounts that requests wait for. is_used: somebody asked for some lately.
    """

    account: Account
    limit: float
    total: float
    recent: float
    taken: float
    spare: float
    wanted: tuple[float, ...] = ()
    is_used: bool = True


class Answer(NamedTuple):
    """What the book says to a word.

    granted: leased beside what the router has. share: what it may hold for nobody. free: what is
    left in the book. wait_s: until something comes free. reset_s: until nothing is used.
    """

    granted: float
    share: float
    free: float
    wait_s: float
    reset_s: float


class Told(NamedTuple):
    """incarnation: another one knows nothing of before. answers: one a word, in order."""

    incarnation: str
    n_routers: int
    answers: Sequence[Answer]


class BookAwayError(Exception):
    """The book does not answer."""


class Book(Protocol):
    """The cluster's one book, as a router reaches it."""

    async def sync(self, router: str, words: Sequence[Word]) -> Told:
        """Tell it, and hear. Raises BookAwayError within a quarter of a second."""
        ...
