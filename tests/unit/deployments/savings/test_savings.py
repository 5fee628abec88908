"""What caches save is added up by tenant and voice, and is there again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cache_store.settings import CacheSettings
from cache_store.stats import MOST_OWNERS, OTHERS, Saved, Savings, Tally
from deployments.config.telemetry.telemetry_settings import TelemetrySettings
from deployments.savings import book as module
from deployments.savings.account import CACHES, Account
from deployments.savings.book import ROOT, SavingsBook
from deployments.savings.keeper import SavingsKeeper
from deployments.voices.shelf import Shelf
from pipeline.errors import StageUnavailableError
from tests.http_app import HttpApp, running, tenant
from tests.serve.service_client import listed_clip
from tests.unit.deployments.telemetry.conftest import Seen
from tests.waiting import until

pytestmark = pytest.mark.unit

OWNER = "ab" * 32
DAY = date(2026, 3, 1)


def account(hits: int = 1, namespace: str = "museum", owner: str = OWNER) -> Account:
    one = Account(100)
    one.take("voices", {(namespace, owner): Saved(hits, 0.5 * hits, 1)})
    return one


def opened(directory: Path) -> Shelf:
    shelf = Shelf.open(CacheSettings(url=str(directory)))
    assert shelf is not None
    return shelf


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    one = opened(tmp_path)
    yield one
    one.close()


@pytest.fixture(autouse=True)
def day(monkeypatch: pytest.MonkeyPatch) -> list[date]:
    """Today, as its only element."""
    days = [DAY]
    monkeypatch.setattr(module, "today", lambda: days[0])
    return days


def test_an_account_adds_up_and_is_read_as_it_was_written() -> None:
    one = account(2)
    one.add(account(3))
    one.take("speech", {("museum", OWNER): Saved(1, 2.0, 0)})
    again = Account.read(one.written(), 100)
    assert again.rows == one.rows
    assert again.total("voices") == Saved(5, 2.5, 2)
    assert again.total("speech") == Saved(1, 2.0, 0)
    assert OWNER not in str(one.written())


def test_names_are_bounded_and_nothing_is_lost() -> None:
    one = Account(2)
    for number in range(5):
        one.take("voices", {("museum", f"{number:064x}"[::-1]): Saved(1, 1.0, 0)})
    assert len(one.rows) == 3
    assert one.rows[OTHERS]["voices"] == Saved(3, 3.0, 0)
    assert one.total("voices").hits == 5


async def test_the_largest_account_is_one_document(shelf: Shelf) -> None:
    most = TelemetrySettings.model_json_schema()["properties"]["most_accounts"]["maximum"]
    one = Account(most)
    for number in range(most + 1):
        name = f"{number:0>63}", f"{number:064x}"[::-1]
        for cache in CACHES:
            one.take(cache, {name: Saved(1_234, 1_234.567, 12)})
    await SavingsBook(shelf, most, 30).add(one)
    assert (await SavingsBook(shelf, most, 30).read(1)).total("voices").hits == 1_234 * (most + 1)


@pytest.mark.parametrize("rows", [None, {}, [[]], [["a", "b", 1, 2, 3]], [["a", "b", *"xxxxxx"]]])
def test_what_is_no_account_is_not_read(rows: object) -> None:
    with pytest.raises(ValueError, match=r"account|could not convert"):
        Account.read(rows, 100)


def test_a_cache_counts_by_owner_until_it_is_asked() -> None:
    class Key:
        namespace, kind, digest, path = "museum", "voice", "0", "p"

        def __init__(self, owner: str) -> None:
            self.owner = owner

    tally = Tally()
    for number in range(MOST_OWNERS + 2):
        tally.hit(Key(str(number)), 1.0)
    tally.computed(Key("0"))
    savings = tally.take_savings()
    assert savings["museum", "0"] == Saved(1, 1.0, 1)
    assert savings[OTHERS] == Saved(2, 2.0, 0)
    assert tally.take_savings() == {}


async def test_it_is_there_after_a_restart_and_of_all_routers(shelf: Shelf, tmp_path: Path) -> None:
    for _ in range(2):  # a router, and the one that it is after a restart
        book = SavingsBook(shelf, 100, 30)
        for _ in range(3):
            await book.add(account())
    other = opened(tmp_path)
    total = (await SavingsBook(other, 100, 30).read(1)).total("voices")
    other.close()
    assert total == Saved(6, 3.0, 6)
    assert len(await shelf.paths(ROOT)) == 2  # one small document for each that writes


async def test_days_are_apart_and_old_ones_go(shelf: Shelf, day: list[date]) -> None:
    book = SavingsBook(shelf, 100, 5)
    await book.add(account(1))
    day[0] = date(2026, 3, 4)
    await book.add(account(2))  # of the minute before midnight: it is the old day's
    await book.add(account(4))
    assert (await book.read(1)).total("voices").hits == 4
    assert (await book.read(99)).total("voices").hits == 7
    day[0] = date(2026, 3, 8)
    await book.sweep()
    assert (await book.read(99)).total("voices").hits == 4


async def test_a_damaged_part_is_left_out(shelf: Shelf) -> None:
    await SavingsBook(shelf, 100, 30).add(account())
    await shelf.publish_bytes(f"{ROOT}/{DAY.isoformat()}/dead/00000000.json", b"no document", 100)
    await shelf.publish(f"{ROOT}/{DAY.isoformat()}/beef/00000000.json", {"rows": 7})
    assert (await SavingsBook(shelf, 100, 30).read(1)).total("voices").hits == 1


async def test_days_that_are_over_are_looked_up_once_and_take_a_row(
    shelf: Shelf, day: list[date], monkeypatch: pytest.MonkeyPatch
) -> None:
    for namespace in ("museum", "school"):
        await SavingsBook(shelf, 100, 30).add(account(2, namespace))
    day[0] = date(2026, 3, 5)
    book, looked, paths, read = SavingsBook(shelf, 100, 30), [], shelf.paths, shelf.read

    async def away(path: str, *, is_remembered: bool = True) -> dict[str, Any] | None:
        raise StageUnavailableError("the store is away")

    async def noted(directory: str) -> list[str]:
        looked.append(directory)
        return await paths(directory)

    monkeypatch.setattr(shelf, "read", away)
    with pytest.raises(StageUnavailableError):
        await book.all()
    monkeypatch.setattr(shelf, "read", read)
    monkeypatch.setattr(shelf, "paths", noted)
    for _ in range(2):
        total = await book.all()
        assert (list(total.rows), total.total("voices").hits) == ([OTHERS], 4)
    assert looked == [f"{ROOT}/{DAY.isoformat()}"]


async def test_what_the_store_does_not_take_is_written_the_next_time(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Savings] = [{("museum", OWNER): Saved(1, 1.0, 0)}]
    keeper = SavingsKeeper(
        TelemetrySettings(gpu_hour_price=7.2),
        shelf,
        {"voices": lambda: counted.pop() if counted else {}, "speech": dict},
    )
    publish = shelf.publish

    async def away(path: str, document: dict[str, Any]) -> bool:
        raise StageUnavailableError("the store is away")

    monkeypatch.setattr(shelf, "publish", away)
    await keeper.flush()
    monkeypatch.setattr(shelf, "publish", publish)
    saved = await keeper.saved(1)
    assert {cache: saved.total(cache).hits for cache in CACHES} == {"voices": 1, "speech": 0}
    assert keeper.money(3_600) == 7.2


async def test_who_asks_while_it_is_written_loses_nothing(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Savings] = [{("museum", OWNER): Saved(1, 1.0, 0)}]
    keeper = SavingsKeeper(
        TelemetrySettings(),
        shelf,
        {"voices": lambda: counted.pop() if counted else {}, "speech": dict},
    )
    publish, taken = shelf.publish, asyncio.Event()

    async def slowly(path: str, document: dict[str, Any]) -> bool:
        taken.set()
        await asyncio.sleep(0.05)
        return await publish(path, document)

    monkeypatch.setattr(shelf, "publish", slowly)
    first = asyncio.create_task(keeper.flush())
    await taken.wait()
    counted.append({("museum", OWNER): Saved(2, 2.0, 0)})
    await asyncio.gather(first, keeper.flush())
    assert (await SavingsBook(shelf, 100, 30).read(1)).total("voices").hits == 3


async def test_a_number_that_was_taken_unheard_is_not_written_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, publish = SavingsBook(shelf, 100, 30), shelf.publish

    async def unheard(path: str, document: dict[str, Any]) -> bool:
        await publish(path, document)
        raise StageUnavailableError("the answer is lost")

    monkeypatch.setattr(shelf, "publish", unheard)
    with pytest.raises(StageUnavailableError):
        await book.add(account(1))
    monkeypatch.setattr(shelf, "publish", publish)
    await book.add(account(2))
    assert (await SavingsBook(shelf, 100, 30).read(1)).total("voices").hits == 3
    assert len(await shelf.paths(ROOT)) == 1


async def test_gauges_show_what_was_kept_before_and_what_came_since(
    shelf: Shelf, seen: Seen
) -> None:
    await SavingsBook(shelf, 100, 30).add(account(3))  # another router, or this one before
    counted: list[Savings] = [{("museum", OWNER): Saved(2, 1.0, 0)}]
    settings = TelemetrySettings(account_every_s=0.01, gpu_hour_price=3_600)
    keeper = SavingsKeeper(
        settings, shelf, {"voices": lambda: counted.pop() if counted else {}, "speech": dict}
    )
    running = asyncio.create_task(keeper.run())
    wanted = (2.5, "voices")
    await until(lambda: wanted in seen["timbre_kept_savings_s"])
    counted.append({("museum", OWNER): Saved(1, 0.5, 0)})
    await until(lambda: (3.0, "voices") in seen["timbre_kept_savings_s"])
    running.cancel()
    assert (3.0, "voices") in seen["timbre_kept_savings_money"]
    assert (1.0, "voices", "museum") in seen["timbre_saved_seconds"]


async def test_it_is_told_by_tenant_and_voice(tmp_path: Path) -> None:
    app = HttpApp(
        is_telling=True,
        cache={"url": str(tmp_path), "l2": "off"},
        telemetry={"gpu_hour_price": 3_600.0},
    )
    async with running(app):
        for _ in range(3):
            assert (await app.speak(input="Hello.", voice="aria", seed=1)).status_code == 200
        async with tenant(app, "museum") as museum:
            body = {"input": "Hello.", "voice": "elena", "seed": 1}
            assert (await museum.post("/v1/audio/speech", json=body)).status_code == 200
        report = (await app.http.get("/v1/cache/savings?days=1")).json()
        names = {(row["tenant"], row["voice"]) for row in report["by_voice"]}
        assert names == {(app.voices.namespace, "aria"), ("museum", "elena")}
        tenants = {row["tenant"]: row for row in report["by_tenant"]}
        ours = tenants[app.voices.namespace]
        assert (ours["voices"]["hits"], ours["voices"]["computes"]) == (2, 1)
        assert (ours["speech"]["hits"], ours["speech"]["computes"]) == (2, 1)
        assert ours["speech"]["money"] == pytest.approx(ours["speech"]["saved_s"], abs=1e-3)
        assert tenants["museum"]["voices"]["hits"] == 0
        clip = (await app.http.post("/v1/cache/warm", content=listed_clip("aria")[0])).json()[
            "clip"
        ]
        assert (await app.http.delete(f"/v1/cache/{clip}")).status_code == 200
        report = (await app.http.get("/v1/cache/savings?days=1")).json()
        assert "aria" not in {row["voice"] for row in report["by_voice"]}
