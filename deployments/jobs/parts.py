"""What came of the segments: facts and a FLAC file each, by the first who made it.

The file's name has its digest, so that of two makers the one whose facts come second leaves
nothing that the other's facts could mean.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from cache_store.keys import raw_key
from deployments.jobs.documents import JobState, PartFacts
from deployments.jobs.store import JobName
from deployments.voices.shelf import Shelf
from pipeline.errors import StageError

MOST_BYTES = 256 * 2**20  # of a part's file
_AT_ONCE = 64
_FACTS = re.compile(r"([0-9]{6})-([0-9]{4})\.json")


class Parts:
    """Of every job. Raises as Shelf does."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def all(self, name: JobName, state: JobState) -> dict[int, PartFacts]:
        """What came so far of what is wanted, by number."""
        wanted: list[tuple[int, int]] = []
        for found in await self._shelf.names(name.place("parts")):
            if parsed := _FACTS.fullmatch(found):
                number, revision = int(parsed[1]), int(parsed[2])
                if state.asked_again(number).revision == revision:
                    wanted.append((number, revision))
        return await self._read(name, wanted)

    async def some(
        self, name: JobName, state: JobState, numbers: Sequence[int]
    ) -> dict[int, PartFacts]:
        """Of these segments."""
        asked = [(number, state.asked_again(number).revision) for number in numbers]
        return await self._read(name, asked)

    async def find(self, name: JobName, number: int, revision: int) -> PartFacts | None:
        """What came of one."""
        document = await self._shelf.read(_facts(name, number, revision))
        return None if document is None else PartFacts.read(document)

    async def keep(self, name: JobName, facts: PartFacts, audio: bytes) -> PartFacts:
        """Write it down; returns what another maker wrote, where there was one."""
        if audio:
            await self._shelf.publish_bytes(_audio(name, facts), audio, len(audio))
        path = _facts(name, facts.number, facts.revision)
        if await self._shelf.publish(path, facts.written()):
            return facts
        document = await self._shelf.read(path, is_remembered=False)
        other = facts if document is None else PartFacts.read(document)
        if audio and other.audio != facts.audio:
            await self._shelf.delete(_audio(name, facts))
        return other

    async def audio(self, name: JobName, facts: PartFacts) -> bytes:
        """A part's FLAC file. Raises StageError when it is gone or damaged."""
        path = _audio(name, facts)
        data = await self._shelf.read_bytes(path, min(facts.size_bytes, MOST_BYTES))
        if data is None or raw_key(data) != facts.audio:
            raise StageError(
                "the audio of a segment is " + ("missing" if data is None else "damaged"),
                detail=path,
            )
        return data

    async def _read(self, name: JobName, asked: Sequence[tuple[int, int]]) -> dict[int, PartFacts]:
        found: dict[int, PartFacts] = {}
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            read = await asyncio.gather(*(self.find(name, *one) for one in some))
            found |= {one.number: one for one in read if one is not None}
        return found


def counted(parts: Mapping[int, PartFacts]) -> tuple[int, int, int]:
    """Parts that are there, that the guard found fault with, and that came to nothing."""
    n_failed = sum(one.fault is not None for one in parts.values())
    return len(parts), sum(one.is_bad for one in parts.values()), n_failed


def _facts(name: JobName, number: int, revision: int) -> str:
    return f"{name.place('parts')}/{number:06d}-{revision:04d}.json"


def _audio(name: JobName, facts: PartFacts) -> str:
    place = name.place("audio")
    return f"{place}/{facts.number:06d}-{facts.revision:04d}-{facts.audio[:16]}.flac"
