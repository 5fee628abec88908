"""Journals: numbered documents in a directory, of which the last one says how things stand.

A number is written once, so that of several writers one wins, on any replica and over any store
that can create without overwriting.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.voices.shelf import Document, Shelf

_DIGITS = 8
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One document of a journal. number: from 0."""

    number: int
    document: Document


class Journals:
    """Every journal of a shelf, by its directory. Raises as Shelf does."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def last(self, directory: str) -> Entry | None:
        """The newest entry, None of a journal that was never begun."""
        while True:
            numbers = [
                n for name in await self._shelf.names(directory) if (n := _number(name)) >= 0
            ]
            if not numbers:
                return None
            entry = await self.at(directory, max(numbers))
            if entry is not None:
                return entry

    async def after(self, directory: str, entry: Entry) -> Entry:
        """The newest entry, `entry` itself when none was written since: one request for that."""
        while (follower := await self.at(directory, entry.number + 1)) is not None:
            entry = follower
        return entry

    async def at(self, directory: str, number: int) -> Entry | None:
        """One entry."""
        document = await self._shelf.read(entry_path(directory, number))
        return None if document is None else Entry(number, document)

    async def append(self, directory: str, number: int, document: Document) -> bool:
        """Write the entry; False when another writer was faster with this number."""
        return await self._shelf.publish(entry_path(directory, number), document)

    async def shorten(self, directory: str, before: int) -> None:
        """Remove the entries before a number."""
        for name in await self._shelf.names(directory):
            if 0 <= _number(name) < before:
                await self._shelf.delete(f"{directory}/{name}")


def entry_path(directory: str, number: int) -> str:
    """Where an entry lies."""
    return f"{directory}/{number:0{_DIGITS}d}{_SUFFIX}"


def last_numbers(paths: list[str]) -> dict[str, int]:
    """Directory → number of its newest entry, of paths below several journals."""
    last: dict[str, int] = {}
    for path in paths:
        directory, _, name = path.rpartition("/")
        if (number := _number(name)) >= 0:
            last[directory] = max(number, last.get(directory, -1))
    return last


def _number(name: str) -> int:
    """-1 for what is no entry."""
    stem = name.removesuffix(_SUFFIX)
    return int(stem) if stem != name and stem.isdecimal() and len(stem) == _DIGITS else -1
