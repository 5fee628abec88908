"""A tenant's pronunciation dictionaries: one journal, whose last entry holds all of them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cache_store.flight import SingleFlight
from deployments.pronunciation.documents import NONE, Dictionaries, Dictionary
from deployments.voices.documents import new_id
from deployments.voices.journal import Entry, Journals
from deployments.voices.shelf import MAX_JSON_BYTES, ROOT, Shelf
from pipeline.errors import (
    MAX_FOUND,
    CapacityError,
    InputError,
    TimbreError,
    UnknownPronunciationError,
)

logger = logging.getLogger(__name__)

FRESH_S = 0.9  # how old what is known may be; other routers' changes are seen within a second
POLL_S = 0.4  # between looks at the journals of tenants that speak
FOLLOWED_S = 60.0  # a tenant that has not spoken for so long is looked up when it speaks again
CERTAIN_S = 10.0  # a journal that was not looked at for so long may have been shortened
KEPT_ENTRIES = 20  # of a journal, for those who read it meanwhile
MAX_TENANTS = 1_000  # whose dictionaries a router knows
MAX_DICTIONARIES = 200  # of one tenant
_AT_ONCE = 16  # tenants
TRIES = 20  # of a change that others keep overtaking
_ID = re.compile(r"pron_[0-9a-f]{32}")


@dataclass(slots=True)
class _Known:
    """What is known of a tenant."""

    entry: Entry | None = None
    dictionaries: Dictionaries = NONE
    seen_s: float = float("-inf")
    used_s: float = float("-inf")
    failure: TimbreError | None = None
    """Of the last look, if it failed."""
    failed_s: float = float("-inf")


class PronunciationBook:
    """Dictionaries of every namespace; no method reaches from one into another.

    Use it from one event loop. Changes raise as Shelf does, and UnknownPronunciationError for an id
    that the namespace has no dictionary of. max_entries: of one namespace together.
    """

    def __init__(self, shelf: Shelf, max_entries: int) -> None:
        self._journals = Journals(shelf)
        self._max_entries = max_entries
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._flight = SingleFlight[None]()

    async def all(self, namespace: str) -> Dictionaries:
        """As they stood less than a second ago.

        While the store does not answer, as they were known; raises StageUnavailableError when they
        never were.
        """
        known = self._of(namespace)
        known.used_s = time.monotonic()
        if time.monotonic() - max(known.seen_s, known.failed_s) > FRESH_S:
            await self._flight.run(namespace, partial(self._try_look, namespace, known))
        if known.failure is not None and known.seen_s == float("-inf"):
            raise known.failure.with_traceback(None)  # else it holds on to all who were told
        return known.dictionaries

    async def get(self, namespace: str, asked: str) -> Dictionary:
        """Raises UnknownPronunciationError."""
        found = (await self.all(namespace)).by_id.get(asked)
        if found is None:
            raise unknown(asked)
        return found

    async def add(self, namespace: str, dictionary: Dictionary) -> str:
        """Keep a new one; its id. When it returns, a restart finds it."""
        made = new_id("pron")
        await self._change(namespace, lambda all_: all_.changed(made, dictionary))
        return made

    async def replace(
        self, namespace: str, asked: str, change: Callable[[Dictionary], Dictionary]
    ) -> Dictionary:
        """Another in the place of one; `change` may be called again when others were faster."""

        def changed(all_: Dictionaries) -> Dictionaries:
            if asked not in all_.by_id:
                raise unknown(asked)
            return all_.changed(asked, change(all_.by_id[asked]))

        return (await self._change(namespace, changed)).by_id[asked]

    async def remove(self, namespace: str, asked: str) -> None:
        """Requests that name it are refused from now on."""

        def changed(all_: Dictionaries) -> Dictionaries:
            if asked not in all_.by_id:
                raise unknown(asked)
            return all_.changed(asked, None)

        await self._change(namespace, changed)

    async def follow(self) -> None:
        """Notice what other routers changed, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            used_since_s = time.monotonic() - FOLLOWED_S
            spoke = [one for one in self._known.items() if one[1].used_s > used_since_s]
            for start in range(0, len(spoke), _AT_ONCE):
                await asyncio.gather(
                    *(
                        self._flight.run(namespace, partial(self._try_look, namespace, known))
                        for namespace, known in spoke[start : start + _AT_ONCE]
                    )
                )

    def _of(self, namespace: str) -> _Known:
        known = self._known.setdefault(namespace, _Known())
        self._known.move_to_end(namespace)
        if len(self._known) > MAX_TENANTS:
            self._known.popitem(last=False)
        return known

    async def _try_look(self, namespace: str, known: _Known) -> None:
        """Read what was written since; the log tells when that begins to fail."""
        try:
            await self._look(namespace, known)
        except TimbreError as error:
            if known.failure is None:
                logger.warning("pronunciations are those of before: %s", error)
            known.failure, known.failed_s = error, time.monotonic()

    async def _look(self, namespace: str, known: _Known) -> None:
        directory, began_s = _directory(namespace), time.monotonic()
        if began_s - known.seen_s > CERTAIN_S:
            entry = await self._journals.last(directory)
        else:
            first = known.entry or await self._journals.at(directory, 0)
            entry = first and await self._journals.after(directory, first)
        if began_s >= known.seen_s:  # no other look was faster
            self._learn(known, entry, began_s)
        known.failure = None

    def _learn(self, known: _Known, entry: Entry | None, seen_s: float) -> None:
        if entry is not None and (known.entry is None or entry.number != known.entry.number):
            known.dictionaries = Dictionaries.read(entry.document)
        known.entry, known.seen_s = entry, seen_s

    async def _change(
        self, namespace: str, change: Callable[[Dictionaries], Dictionaries]
    ) -> Dictionaries:
        known, directory = self._of(namespace), _directory(namespace)
        known.used_s = time.monotonic()
        for _ in range(TRIES):
            known.seen_s = min(known.seen_s, time.monotonic() - CERTAIN_S)
            await self._look(namespace, known)
            made = change(known.dictionaries)
            self._check(made)
            number = 0 if known.entry is None else known.entry.number + 1
            document = made.written()
            if await self._journals.append(directory, number, document):
                self._learn(known, Entry(number, document), time.monotonic())
                await self._journals.shorten(directory, number - KEPT_ENTRIES)
                return made
        raise CapacityError("the dictionaries are being changed by others; retry in a moment")

    def _check(self, made: Dictionaries) -> None:
        """Raises InputError: they are too many."""
        if made.n_entries > self._max_entries:
            raise InputError(
                f"the dictionaries have {made.n_entries} entries together, {self._max_entries} are "
                "allowed",
                param="entries",
            )
        if len(made.by_id) > MAX_DICTIONARIES:
            raise InputError(f"{MAX_DICTIONARIES} dictionaries are allowed", param="name")
        if len(json.dumps(made.written())) > MAX_JSON_BYTES:
            raise InputError(
                f"the dictionaries take more than {MAX_JSON_BYTES} bytes together",
                param="entries",
            )


def unknown(asked: str, param: str = "pronunciation_id") -> UnknownPronunciationError:
    """No dictionary has this id."""
    shape = "" if _ID.fullmatch(asked) else "; ids are as pron_…"
    return UnknownPronunciationError(
        f"no pronunciation dictionary has the id {asked[:MAX_FOUND]!a}{shape}", param=param
    )


def _directory(namespace: str) -> str:
    return f"{ROOT}/{namespace}/pronunciations"
