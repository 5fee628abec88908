"""How long whoever calls a stage waits: for an answer, and for any sign of its replica's life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from deployments.config.settings import Limits
from deployments.liveness.signs import Alive
from pipeline.errors import StageUnavailableError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Patience:
    """With a stream.

    first_s: for its first chunk, which may stand in line. next_s: for each later one. silence_s:
    for a sign of its replica's life; None for one that gives none.
    """

    first_s: float
    next_s: float
    silence_s: float | None

    @classmethod
    def of(cls, limits: Limits, first_s: float | None = None) -> Self:
        """As the settings have it. first_s: where it is another than that of every chunk."""
        next_s = limits.chunk_timeout_s
        return cls(next_s if first_s is None else first_s, next_s, limits.silence_timeout_s)

    @property
    def without_signs(self) -> Self:
        """The same with a replica of before an update."""
        return replace(self, silence_s=None)


async def heard(stage: str, response: AsyncIterator[Item | Alive], silence_s: float | None) -> Item:
    """The next item of a stage's stream, for which signs of life are waited through.

    Raises StageUnavailableError when there is none for silence_s.
    """
    while True:
        silence = asyncio.timeout(silence_s)
        try:
            async with silence:
                sent = await anext(response)
        except TimeoutError as error:
            if not silence.expired():
                raise
            silent = f"for {silence_s:g} s"
            raise StageUnavailableError(f"the {stage} is silent", detail=silent) from error
        if not isinstance(sent, Alive):
            return sent
