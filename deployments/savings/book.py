"""Where accounts lie: below the caches' store, a document a day for each router that wrote one.

A document is written anew under the next number, then the one before it goes: whoever reads finds
one of them. Rows name clips' owners, which nobody can turn back into a voice without its clip.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from deployments.savings.account import Account
from deployments.voices.journal import Journals, entry_path, last_numbers
from deployments.voices.shelf import Document, Shelf
from pipeline.errors import StageError, StageUnavailableError

logger = logging.getLogger(__name__)

ROOT = "accounts/v1"


class SavingsBook:
    """Of one router. Raises as Shelf does. One `add` at a time.

    most: rows of a day's document. keep_days: how long one is kept.
    """

    def __init__(self, shelf: Shelf, most: int, keep_days: int) -> None:
        self._shelf, self._most, self._keep_days = shelf, most, keep_days
        self._journals = Journals(shelf)
        self._writer = secrets.token_hex(8)  # a router that starts anew writes a part of its own
        self._day = today()
        self._written = -1  # number of the part's newest document
        self._part, self._is_behind = Account(most), False
        self._past: dict[date, Account] = {}  # a row each

    async def add(self, account: Account) -> None:
        """Write down what was saved since the last time, if anything was.

        What could not be written is the next time.
        """
        if account.rows:
            self._part.add(account)
            self._is_behind = True
        if self._is_behind:
            await self._write()
        if (day := today()) != self._day:
            self._day, self._written, self._part = day, -1, Account(self._most)

    async def _write(self) -> None:
        directory, before, number = self._directory(self._day), self._written, self._written + 1
        document = {"rows": self._part.written()}
        while not await self._shelf.publish(entry_path(directory, number), document):
            number += 1  # this one is ours as well: the store took it, and was not heard to
        self._written, self._is_behind = number, False
        for old in range(max(before, 0), number):
            await self._shelf.delete(entry_path(directory, old))

    async def read(self, days: int) -> Account:
        """What all routers wrote of the last days, today included."""
        account = Account(10 * self._most)
        for day in await self._days(days):
            await self._add_day(day, account)
        return account

    async def all(self) -> Account:
        """What all routers wrote on all days that are kept, in one row."""
        account = Account(0)
        for day in await self._days(self._keep_days):
            account.add(await self._sum_of(day))
        return account

    async def sweep(self) -> None:
        """Remove what is older than it is kept."""
        oldest = today() - timedelta(days=self._keep_days)
        for name in await self._shelf.names(ROOT):
            if name < oldest.isoformat():
                for path in await self._shelf.paths(f"{ROOT}/{name}"):
                    await self._shelf.delete(path)

    async def _days(self, most: int) -> list[date]:
        """The last ones, of which something is there."""
        kept = set(await self._shelf.names(ROOT))
        return [day for day in _last(min(most, self._keep_days)) if day.isoformat() in kept]

    async def _sum_of(self, day: date) -> Account:
        if (known := self._past.get(day)) is not None:
            return known
        account = Account(0)
        await self._add_day(day, account)
        if day < today() - timedelta(days=1):  # nobody writes there any more
            self._past[day] = account
        return account

    async def _add_day(self, day: date, account: Account) -> None:
        newest = last_numbers(await self._shelf.paths(f"{ROOT}/{day.isoformat()}"))
        for directory, number in newest.items():
            try:
                document = await self._document(directory, number)
                await asyncio.to_thread(self._add_document, document, account)
            except StageUnavailableError:
                raise
            except (StageError, ValueError) as error:
                logger.warning("what was saved is not counted of %s: %s", directory, error)

    async def _document(self, directory: str, number: int) -> Document:
        """Not remembered: these are many, and voices' documents would have to go."""
        document = await self._shelf.read(entry_path(directory, number), is_remembered=False)
        if document is not None:
            return document
        entry = await self._journals.last(directory)  # a newer one took its place meanwhile
        return {"rows": []} if entry is None else entry.document

    def _add_document(self, document: Document, account: Account) -> None:
        """Blocks."""
        account.add(Account.read(document.get("rows"), self._most))

    def _directory(self, day: date) -> str:
        return f"{ROOT}/{day.isoformat()}/{self._writer}"


def today() -> date:
    """By UTC, as all routers have it."""
    return datetime.fromtimestamp(time.time(), UTC).date()


def _last(days: int) -> Iterator[date]:
    return (today() - timedelta(days=n) for n in range(days))
