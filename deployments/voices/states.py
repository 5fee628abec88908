"""How uploaded voices stand, as the store has it now or had it a moment ago.

A journal a voice. What was read is believed for half a second, so that a deletion is known to every
router within one even where its word did not get there.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from functools import partial

from cache_store.flight import SingleFlight
from cache_store.memory import MemoryTier
from deployments.voices.documents import VoiceState
from deployments.voices.journal import Entry, Journals, last_numbers
from deployments.voices.shelf import ROOT, Shelf
from pipeline.errors import StageUnavailableError

FRESH_S = 0.5  # how long a state is believed without a look
STALE_S = 30.0  # and while the store does not answer
PROBED_S = 20.0  # older than that, the journal is listed: its entries may have been removed
_REMEMBERED = 10_000  # voices
_AT_ONCE = 64
_ID = re.compile(r"voice_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Standing:
    """A voice's newest state. number: in its journal."""

    number: int
    state: VoiceState

    @property
    def is_live(self) -> bool:
        return self.state.status == "live"


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look saw, None for no voice, and when it began."""

    entry: Entry | None
    began_s: float

    @property
    def standing(self) -> Standing | None:
        return None if self.entry is None else _standing(self.entry)


class VoiceStates:
    """States by namespace and id. Use it from one event loop. Raises as Shelf does."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._journals = Journals(shelf)
        self._looks = MemoryTier[_Look](_REMEMBERED)
        self._flight = SingleFlight[_Look]()

    async def recent(self, namespace: str, voice: str) -> Standing | None:
        """As it stands, or stood up to FRESH_S ago; what a request asks."""
        directory = _directory(namespace, voice)
        look = self._looks.get(directory)
        if look is None or time.monotonic() - look.began_s > FRESH_S:
            try:
                look = await self._look(directory, look)
            except StageUnavailableError:
                if look is None or time.monotonic() - look.began_s > STALE_S:
                    raise
        return look.standing

    async def now(self, namespace: str, voice: str) -> Standing | None:
        """As it stands; what a change begins with."""
        entry = await self._journals.last(_directory(namespace, voice))
        return None if entry is None else _standing(entry)

    async def before(self, namespace: str, voice: str, number: int) -> Standing | None:
        """The state before one."""
        entry = await self._journals.at(_directory(namespace, voice), number - 1)
        return None if entry is None else _standing(entry)

    async def all(self, namespace: str) -> dict[str, Standing]:
        """Every voice that ever was, by id, in the order they were made."""
        top = f"{ROOT}/{namespace}/states"
        last = sorted(last_numbers(await self._shelf.paths(top)).items())
        found: dict[str, Standing] = {}
        for start in range(0, len(last), _AT_ONCE):
            some = last[start : start + _AT_ONCE]
            entries = await asyncio.gather(*(self._journals.at(*one) for one in some))
            for (directory, _), entry in zip(some, entries, strict=True):
                if entry is not None:
                    found[directory.rpartition("/")[2]] = _standing(entry)
        return found

    async def append(self, namespace: str, voice: str, number: int, state: VoiceState) -> bool:
        """Write the next state; False when another writer was faster."""
        directory = _directory(namespace, voice)
        is_written = await self._journals.append(directory, number, state.written())
        self.forget(namespace, voice)
        return is_written

    async def shorten(self, namespace: str, voice: str, before: int) -> None:
        """Remove the states before a number."""
        await self._journals.shorten(_directory(namespace, voice), before)

    def forget(self, namespace: str, voice: str) -> None:
        """Look at the store the next time that the voice is asked for."""
        directory = _directory(namespace, voice)
        self._looks.discard(directory)
        self._flight.detach(directory)

    async def _look(self, directory: str, last: _Look | None) -> _Look:
        look, _ = await self._flight.run(
            directory, partial(self._read, directory, last), owner=directory
        )
        return look

    async def _read(self, directory: str, last: _Look | None) -> _Look:
        began_s = time.monotonic()
        if last is None or last.entry is None or began_s - last.began_s > PROBED_S:
            entry = await self._journals.last(directory)
        else:
            entry = await self._journals.after(directory, last.entry)
        look = _Look(entry, began_s)
        self._looks.put(directory, look, 1)
        return look


def is_voice_id(text: str) -> bool:
    """Whether it can be one; only such a text gets into a path."""
    return _ID.fullmatch(text) is not None


def _directory(namespace: str, voice: str) -> str:
    return f"{ROOT}/{namespace}/states/{voice}"


def _standing(entry: Entry) -> Standing:
    return Standing(entry.number, VoiceState.read(entry.document))
