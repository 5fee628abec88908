"""Dictionaries while the store that keeps them fails, and as large as they may be."""

from __future__ import annotations

import asyncio
import json
import traceback
from pathlib import Path

import pytest

from cache_store.settings import CacheSettings
from deployments.config.text_settings import PronunciationEntry
from deployments.pronunciation import book
from deployments.pronunciation.book import FRESH_S, PronunciationBook
from deployments.pronunciation.documents import Dictionaries, Dictionary
from deployments.voices.documents import new_id
from deployments.voices.shelf import MAX_DOCUMENT_BYTES, MAX_JSON_BYTES, Document, Shelf
from pipeline.errors import InputError, StageUnavailableError

pytestmark = pytest.mark.unit
MANY = 50


class Clock:
    """Stands in for `time`."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        self.now_s += 1e-6
        return self.now_s


class FailingShelf(Shelf):
    """One on a directory, which may be away; counts who looks at it."""

    is_away = False
    n_looks = 0

    async def names(self, directory: str) -> list[str]:
        await self._look()
        return await super().names(directory)

    async def read(self, path: str, *, is_remembered: bool = True) -> Document | None:
        await self._look()
        return await super().read(path, is_remembered=is_remembered)

    async def _look(self) -> None:
        self.n_looks += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise StageUnavailableError("the store of the voices does not answer")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(book, "time", clock)
    return clock


@pytest.fixture
def shelf(tmp_path: Path) -> FailingShelf:
    shelf = FailingShelf.open(CacheSettings(url=str(tmp_path)))
    assert isinstance(shelf, FailingShelf)
    return shelf


def dictionary(said: str = "win", name: str = "names") -> Dictionary:
    entry = PronunciationEntry.model_validate({"written": "Nguyen", "said": said})
    return Dictionary(name=name, entries=(entry,), created_unix_s=0, updated_unix_s=0)


async def all_fail(one: PronunciationBook, namespace: str = "me") -> list[BaseException]:
    told = await asyncio.gather(*(one.all(namespace) for _ in range(MANY)), return_exceptions=True)
    failures = [error for error in told if isinstance(error, StageUnavailableError)]
    assert len(failures) == MANY
    return [*failures]


async def test_many_requests_at_once_look_once_at_a_store_that_is_away(
    shelf: FailingShelf, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.is_away, one = True, PronunciationBook(shelf, 10)
    await all_fail(one)
    assert shelf.n_looks == 1
    clock.now_s += FRESH_S / 2
    await all_fail(one)
    assert shelf.n_looks == 1, "that it failed is remembered"
    clock.now_s += FRESH_S
    await all_fail(one)
    assert shelf.n_looks == 2
    await all_fail(one, "somebody else")
    assert shelf.n_looks == 3
    assert len(caplog.records) == 2, "each tenant's failure is logged as it begins"


async def test_who_is_told_of_a_failure_is_not_held_by_it(
    shelf: FailingShelf, clock: Clock
) -> None:
    shelf.is_away, one = True, PronunciationBook(shelf, 10)
    await all_fail(one)
    *_, last = await all_fail(one)
    assert len(traceback.extract_tb(last.__traceback__)) < 5


async def test_a_store_that_is_back_is_heard_after_a_short_while(
    shelf: FailingShelf, clock: Clock
) -> None:
    shelf.is_away, one = True, PronunciationBook(shelf, 10)
    await all_fail(one)
    shelf.is_away = False
    clock.now_s += FRESH_S
    assert (await one.all("me")).by_id == {}
    made = await one.add("me", dictionary())
    assert list((await one.all("me")).by_id) == [made]


async def test_what_is_known_counts_while_the_store_is_away(
    shelf: FailingShelf, clock: Clock
) -> None:
    one = PronunciationBook(shelf, 10)
    made = await one.add("me", dictionary())
    shelf.is_away, shelf.n_looks = True, 0
    clock.now_s += 2 * FRESH_S
    for _ in range(2):
        found = await asyncio.gather(*(one.all("me") for _ in range(MANY)))
        assert {tuple(all_.by_id) for all_ in found} == {(made,)}
    assert shelf.n_looks == 1
    with pytest.raises(StageUnavailableError):
        await one.add("me", dictionary())


async def test_who_asks_while_a_look_is_under_way_joins_it(
    shelf: FailingShelf, clock: Clock
) -> None:
    one = PronunciationBook(shelf, 10)
    await asyncio.gather(*(one.all("me") for _ in range(MANY)))
    assert shelf.n_looks == 1
    clock.now_s += FRESH_S / 2
    await one.all("me")
    assert shelf.n_looks == 1


@pytest.mark.parametrize("n_over", [0, 1, MAX_DOCUMENT_BYTES - MAX_JSON_BYTES])
async def test_dictionaries_as_large_as_can_be_kept_are_and_larger_ones_are_refused(
    shelf: FailingShelf, n_over: int
) -> None:
    """No size is a failure of ours: what is accepted can be sealed, and read again."""
    one = PronunciationBook(shelf, 10)
    empty = Dictionaries(by_id={new_id("pron"): dictionary(name="")})
    n_bytes = MAX_JSON_BYTES - len(json.dumps(empty.written())) + n_over
    large = dictionary(name="n" * n_bytes)
    if n_over:
        with pytest.raises(InputError) as refused:
            await one.add("me", large)
        assert refused.value.param == "entries"
    else:
        made = await one.add("me", large)
        assert (await PronunciationBook(shelf, 10).get("me", made)).name == large.name
