"""Looks at a tenant's dictionaries that overtake each other, and those of several tenants."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cache_store.settings import CacheSettings
from deployments.pronunciation import book as books
from deployments.pronunciation.book import PronunciationBook
from deployments.pronunciation.documents import Dictionary
from deployments.voices.shelf import Shelf

pytestmark = pytest.mark.unit
DICTIONARY = Dictionary(name="terms", created_unix_s=1, updated_unix_s=1)


def book_in(directory: Path) -> PronunciationBook:
    shelf = Shelf.open(CacheSettings(url=str(directory), l2="off"))
    assert shelf is not None
    return PronunciationBook(shelf, 10_000)


async def test_a_slow_look_brings_nothing_back(tmp_path: Path):
    """A change while somebody looks: what the look saw is older."""
    book = book_in(tmp_path)
    await book.add("shared", DICTIONARY)
    known = book._of("shared")
    began = asyncio.Event()
    go = asyncio.Event()
    after = book._journals.after

    async def slow(*args: Any) -> Any:
        found = await after(*args)
        began.set()
        await go.wait()
        return found

    book._journals.after = slow  # type: ignore[method-assign]
    looking = asyncio.create_task(book._look("shared", known))
    await began.wait()
    book._journals.after = after  # type: ignore[method-assign]
    await book.add("shared", DICTIONARY)
    go.set()
    await looking
    assert len(known.dictionaries.by_id) == 2


async def test_followed_tenants_are_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One whose journal does not answer keeps nobody else waiting."""
    book = book_in(tmp_path)
    for name in ("a", "b", "c"):
        await book.all(name)
    monkeypatch.setattr(books, "POLL_S", 0.01)
    looked: list[str] = []
    stuck = asyncio.Event()

    async def look(namespace: str, known: Any) -> None:
        del known
        looked.append(namespace)
        if namespace == "a":
            await stuck.wait()

    monkeypatch.setattr(book, "_look", look)
    following = asyncio.create_task(book.follow())
    async with asyncio.timeout(5.0):
        while set(looked) != {"a", "b", "c"}:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
    following.cancel()
    stuck.set()
    await asyncio.wait([following])
