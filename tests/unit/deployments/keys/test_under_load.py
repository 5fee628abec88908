"""A key is rotated and revoked while routers are at work: nobody who has the new one is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache_store.settings import CacheSettings
from deployments.access.caller import Scope
from deployments.keys.book import KeyBook
from deployments.keys.desk import KeyDesk, KeyOrder
from deployments.voices.shelf import Shelf
from pipeline.errors import UnauthenticatedError

pytestmark = [pytest.mark.unit, pytest.mark.slow, pytest.mark.timeout(60)]
MOST_S = 5.0  # until every router refuses what was revoked
ROTATIONS = 8


@pytest.fixture
async def shelves(tmp_path: Path) -> AsyncIterator[list[Shelf]]:
    """Of the command line and of three routers, on one store."""
    found = [Shelf.open(CacheSettings(url=str(tmp_path))) for _ in range(4)]
    yield [shelf for shelf in found if shelf is not None]
    for shelf in found:
        if shelf is not None:
            shelf.close()


async def until_refused(book: KeyBook, key: str) -> float:
    """Asks without a pause; how long the key still counted."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < 2 * MOST_S:
        try:
            await book.caller(key)
        except UnauthenticatedError:
            return time.monotonic() - began_s
        await asyncio.sleep(0.01)
    return float("inf")


async def test_new_secrets_count_at_once_and_old_ones_no_longer_than_five_seconds(shelves):
    desk = KeyDesk(shelves[0], 100)
    books = [KeyBook(KeyDesk(shelf, 100), 600.0) for shelf in shelves[1:]]
    following = [asyncio.create_task(book.follow()) for book in books]
    current = await desk.create(KeyOrder("museum", {Scope.SPEAK}))
    keys = [current.secret]
    is_over = asyncio.Event()
    n_served = 0

    async def work(book: KeyBook) -> None:
        nonlocal n_served
        while not is_over.is_set():
            assert (await book.caller(keys[-1])).key_id == current.id
            n_served += 1
            await asyncio.sleep(0.002)

    workers = [asyncio.create_task(work(book)) for book in books for _ in range(4)]
    try:
        for _ in range(ROTATIONS):
            await asyncio.sleep(0.2)
            keys.append((await desk.rotate(current.id, keep_old_s=60)).secret)
        await asyncio.sleep(0.2)
        await desk.end_old(current.id)
        old = await asyncio.gather(*(until_refused(book, keys[-2]) for book in books))
        is_over.set()
        await asyncio.gather(*workers)
        await desk.revoke(current.id)
        revoked = await asyncio.gather(*(until_refused(book, keys[-1]) for book in books))
    finally:
        is_over.set()
        for task in (*following, *workers):
            task.cancel()
        await asyncio.gather(*following, *workers, return_exceptions=True)
    assert n_served > 20 * ROTATIONS
    assert max(old) <= MOST_S
    assert max(revoked) <= MOST_S
