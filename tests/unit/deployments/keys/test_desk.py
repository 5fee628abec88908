"""Keys are made, rotated and revoked, and known to every router as the store has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache_store.errors import StoreError
from cache_store.settings import CacheSettings
from deployments.access.caller import Caller, Scope
from deployments.config.access.access_settings import AccessSettings
from deployments.config.settings import Settings
from deployments.keys import book as book_module
from deployments.keys import desk as desk_module
from deployments.keys.authority import Authority
from deployments.keys.book import KeyBook
from deployments.keys.desk import KeyDesk, KeyOrder
from deployments.keys.secrets import digest_of, id_of, is_key, new_id, new_key
from deployments.voices.shelf import Shelf
from pipeline.errors import (
    CapacityError,
    ConfigError,
    InputError,
    StageUnavailableError,
    UnauthenticatedError,
    UnknownKeyError,
    UnsupportedError,
)
from tests.waiting import until

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]
ORDER = KeyOrder("museum", {Scope.SPEAK, Scope.VOICES}, "audio guide")
HOLDER = frozenset({Scope.SPEAK, Scope.VOICES})


class Clock:
    """Wall-clock time that stands still, for ends of keys."""

    def __init__(self) -> None:
        self.now_s = 1_795_728_000.0

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(book_module, "time", clock)
    monkeypatch.setattr(desk_module, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch) -> None:
    monkeypatch.setattr(book_module, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(book_module, "FAILED_S", 0.0)


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf.open(CacheSettings(url=str(tmp_path / "store")))
    assert shelf is not None
    yield shelf
    shelf.close()


@pytest.fixture
def desk(shelf) -> KeyDesk:
    return KeyDesk(shelf, max_keys=20)


@pytest.fixture
def book(desk) -> KeyBook:
    return KeyBook(desk, outage_s=600.0)


def break_store(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreError("away")

    for call in ("get", "list", "names", "create"):
        monkeypatch.setattr(shelf._blobs, call, fail)


def test_a_key_is_known_by_a_digest_that_does_not_hold_it():
    key = new_key(new_id())
    assert id_of(key) is not None
    assert is_key(key, digest_of(key))
    assert not is_key(new_key(new_id()), digest_of(key))
    assert key.rpartition("_")[2] not in digest_of(key)


@pytest.mark.parametrize("text", ["", "tk_", "tk_1_2", "sk-live", f"tk_{'0' * 16}_{'G' * 64}"])
def test_what_is_no_key_has_no_id(text):
    assert id_of(text) is None


async def test_a_key_works_at_every_router_at_once(desk, book):
    await book.look()
    made = await desk.create(ORDER)
    assert book.known(made.secret) is None
    assert await book.caller(made.secret) == Caller("museum", made.id, HOLDER)
    assert book.known(made.secret) == Caller("museum", made.id, HOLDER)


async def test_the_store_has_no_secret(desk, tmp_path):
    made = await desk.create(ORDER)
    rotated = await desk.rotate(made.id)
    files = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert files
    for key in (made, rotated):
        secret = key.secret.rpartition("_")[2].encode()
        assert not any(secret in data for data in files)
        assert key.secret not in repr(key)


async def test_unknown_keys_are_refused(desk, book):
    made = await desk.create(ORDER)
    for key in (new_key(new_id()), new_key(made.id), "sk-other", "", made.secret[:-1]):
        with pytest.raises(UnauthenticatedError):
            await book.caller(key)


async def test_a_revoked_key_is_refused_after_a_look_for_good(desk, book):
    made = await desk.create(ORDER)
    await book.caller(made.secret)
    await desk.revoke(made.id)
    await book.look()
    with pytest.raises(UnauthenticatedError):
        await book.caller(made.secret)
    with pytest.raises(UnsupportedError, match="revoked"):
        await desk.rotate(made.id)
    assert (await desk.revoke(made.id)).shown(time.time())["status"] == "revoked"


async def test_a_router_finds_out_by_itself(desk, book, monkeypatch):
    """Within POLL_S and a listing; the issue allows 5 s."""
    assert book_module.POLL_S <= 2.5
    monkeypatch.setattr(book_module, "POLL_S", 0.02)
    made = await desk.create(ORDER)
    following = asyncio.create_task(book.follow())
    try:
        await book.caller(made.secret)
        await desk.revoke(made.id)
        await until(lambda: book.known(made.secret) is None)
    finally:
        following.cancel()


async def test_a_key_ends_when_it_expires(desk, book, clock):
    made = await desk.create(KeyOrder("museum", {Scope.SPEAK}, expires_s=60))
    assert await book.caller(made.secret)
    clock.now_s += 59.9
    assert await book.caller(made.secret)
    clock.now_s += 0.1
    with pytest.raises(UnauthenticatedError):
        await book.caller(made.secret)
    assert made.shown(clock.now_s)["status"] == "expired"


async def test_a_rotation_leaves_the_old_secret_for_a_while(desk, book, clock):
    made = await desk.create(ORDER)
    await book.caller(made.secret)
    rotated = await desk.rotate(made.id, keep_old_s=100)
    assert rotated.id == made.id
    for key in (rotated.secret, made.secret):
        assert (await book.caller(key)).key_id == made.id
    clock.now_s += 100
    assert await book.caller(rotated.secret)
    with pytest.raises(UnauthenticatedError):
        await book.caller(made.secret)


async def test_an_old_secret_is_refused_when_told(desk, book):
    made = await desk.create(ORDER)
    rotated = await desk.rotate(made.id)
    assert await book.caller(made.secret)
    await desk.end_old(made.id)
    await book.look()
    assert await book.caller(rotated.secret)
    with pytest.raises(UnauthenticatedError):
        await book.caller(made.secret)


async def test_a_second_rotation_neither_keeps_the_first_secret_nor_lengthens_the_second(
    desk, book, clock
):
    first = await desk.create(ORDER)
    second = await desk.rotate(first.id, keep_old_s=100)
    third = await desk.rotate(first.id, keep_old_s=0)
    assert await book.caller(third.secret)
    for key in (first.secret, second.secret):
        with pytest.raises(UnauthenticatedError):
            await book.caller(key)


async def test_while_the_store_is_away_known_keys_count_and_unknown_ones_are_not_refused(
    desk, book, shelf, monkeypatch
):
    made = await desk.create(ORDER)
    await book.caller(made.secret)
    break_store(shelf, monkeypatch)
    assert await book.caller(made.secret)
    with pytest.raises(StageUnavailableError):
        await book.caller(new_key(new_id()))
    with pytest.raises(UnauthenticatedError):  # no store could make it one
        await book.caller("sk-other")


async def test_an_outage_is_bounded(desk, shelf, monkeypatch):
    book = KeyBook(desk, outage_s=0.05)
    made = await desk.create(ORDER)
    await book.caller(made.secret)
    break_store(shelf, monkeypatch)
    await asyncio.sleep(0.06)
    assert book.known(made.secret) is None
    with pytest.raises(StageUnavailableError):
        await book.caller(made.secret)


async def test_a_store_that_never_answered_refuses_nobody_for_good(desk, book, shelf, monkeypatch):
    break_store(shelf, monkeypatch)
    with pytest.raises(StageUnavailableError):
        await book.caller(new_key(new_id()))


async def test_a_flood_of_unknown_keys_looks_seldom_and_waits_in_a_short_line(
    desk, book, monkeypatch
):
    monkeypatch.setattr(book_module, "LOOK_EVERY_S", 0.05)
    made = await desk.create(ORDER)
    await book.caller(made.secret)
    looks = 0
    numbers = desk.numbers

    async def counted() -> dict[str, int]:
        nonlocal looks
        looks += 1
        return await numbers()

    monkeypatch.setattr(desk, "numbers", counted)
    asked = [book.caller(new_key(new_id())) for _ in range(200)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert looks <= 2
    refused = sum(isinstance(one, UnauthenticatedError) for one in answers)
    assert refused == book_module.MAX_WAITING
    assert sum(isinstance(one, CapacityError) for one in answers) == 200 - refused
    assert await book.caller(made.secret)


async def test_a_damaged_document_is_no_key_and_harms_no_other(desk, book, tmp_path, caplog):
    good, bad = await desk.create(ORDER), await desk.create(ORDER)
    (path,) = (tmp_path / "store" / "access/v1/keys" / bad.id).iterdir()
    path.write_bytes(path.read_bytes().replace(b"museum", b"palace"))
    other = KeyDesk(Shelf.open(CacheSettings(url=str(tmp_path / "store"))), 20)  # type: ignore[arg-type]
    book = KeyBook(other, 600.0)
    assert await book.caller(good.secret)
    with pytest.raises(UnauthenticatedError):
        await book.caller(bad.secret)
    await book.look()
    assert caplog.text.count("its document is damaged") == 1
    other._shelf.close()


async def test_scopes_of_a_later_version_are_passed_over(desk, book, shelf):
    made = await desk.create(ORDER)
    document = {**made.state.written(), "scopes": ["speak", "levitate"], "mood": "new"}
    await shelf.publish(f"access/v1/keys/{made.id}/00000001.json", document)
    assert (await book.caller(made.secret)).scopes == {Scope.SPEAK}


async def test_keys_are_listed_by_tenant_without_secrets(desk):
    mine = await desk.create(ORDER)
    await desk.create(KeyOrder("palace", {Scope.JOBS}))
    (found,) = await desk.all("museum")
    assert found.id == mine.id
    shown = found.shown(time.time())
    assert shown["scopes"] == ["speak", "voices"]
    assert "key" not in shown
    assert len(await desk.all()) == 2


@pytest.mark.parametrize(
    ("order", "param"),
    [
        (KeyOrder("../museum", {Scope.SPEAK}), "tenant"),
        (KeyOrder("", {Scope.SPEAK}), "tenant"),
        (KeyOrder("museum", ()), "scopes"),
        (KeyOrder("museum", {Scope.SPEAK}, "x" * 101), "label"),
        (KeyOrder("museum", {Scope.SPEAK}, "a\nb"), "label"),
        (KeyOrder("museum", {Scope.SPEAK}, expires_s=0), "expires_in_s"),
        (KeyOrder("museum", {Scope.SPEAK}, expires_s=10**12), "expires_in_s"),
    ],
)
async def test_a_mistake_is_said(desk, order, param):
    with pytest.raises(InputError) as caught:
        await desk.create(order)
    assert caught.value.param == param


async def test_there_is_a_bound_of_keys(shelf):
    desk = KeyDesk(shelf, max_keys=1)
    await desk.create(ORDER)
    with pytest.raises(CapacityError, match=r"access\.max_keys"):
        await desk.create(ORDER)


@pytest.mark.parametrize("asked", ["0" * 16, "../../voices/v1", "", "x" * 200])
async def test_an_id_that_no_key_has(desk, asked):
    for call in (desk.get, desk.rotate, desk.revoke, desk.end_old):
        with pytest.raises(UnknownKeyError):
            await call(asked)


async def test_changes_at_the_same_time_are_all_made(desk, book):
    """Whichever comes first: a rotation finds the key revoked, or the key is revoked after it."""
    made = await desk.create(ORDER)
    changes = (desk.rotate(made.id), desk.rotate(made.id), desk.revoke(made.id))
    *rotations, revoked = await asyncio.gather(*changes, return_exceptions=True)
    assert revoked.state.revoked_unix_s is not None
    keys = [one.secret for one in rotations if not isinstance(one, UnsupportedError)]
    for key in (made.secret, *keys):
        with pytest.raises(UnauthenticatedError):
            await book.caller(key)


def test_keys_without_a_store_let_nobody_start() -> None:
    """Settings refuse it before; whoever gets around them is not served without keys."""
    settings = Settings.model_construct(access=AccessSettings(keys="on"))
    with pytest.raises(ConfigError, match="needs a store"):
        Authority.of(settings, None)
