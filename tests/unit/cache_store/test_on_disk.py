"""A cache over real stores: slow, damaged, read-only, full, restarted."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from cache_store.aliases import Alias
from cache_store.cache import VoiceCache
from cache_store.errors import StoreError
from cache_store.keys import VoiceKey
from cache_store.local_store import LocalStore
from cache_store.opening import open_cache
from cache_store.persistent_tier import PersistentTier
from cache_store.settings import CacheSettings
from tests.cache_helpers import FINGERPRINT, SCHEMA, make_key, make_record, same
from tests.unit.cache_store.caches import ALIAS_KEY, PATIENT_S, Encoder
from tests.waiting import until

pytestmark = pytest.mark.unit


async def test_a_failing_quarantine_does_not_fail_the_request(tmp_path, monkeypatch, caplog):
    settings = CacheSettings(url=str(tmp_path), l3_read_deadline_s=PATIENT_S)
    store = LocalStore(tmp_path)
    store.create(make_key().path, b"garbage")

    def refuse(path, data):
        raise StoreError("no")

    monkeypatch.setattr(store, "quarantine", refuse)
    cache = VoiceCache(SCHEMA, [PersistentTier(store, settings)], settings)
    assert (await cache.get_or_compute(make_key(), Encoder())).tier == "miss"
    await cache.close()
    assert "could not quarantine" in caplog.text


async def test_a_slow_quarantine_does_not_take_the_new_record_with_it(tmp_path, monkeypatch):
    settings = CacheSettings(url=str(tmp_path), l3_read_deadline_s=PATIENT_S)
    store = LocalStore(tmp_path)
    store.create(make_key().path, b"garbage")
    quarantine, may_go_on = store.quarantine, threading.Event()

    def slowly(path, data):
        assert may_go_on.wait(PATIENT_S)
        quarantine(path, data)

    monkeypatch.setattr(store, "quarantine", slowly)
    cache = VoiceCache(SCHEMA, [PersistentTier(store, settings)], settings)
    assert (await cache.get_or_compute(make_key(), Encoder())).tier == "miss"
    may_go_on.set()  # only now: nobody waits for the quarantine
    await cache.close()
    fresh = open_cache(settings, SCHEMA)
    assert (await fresh.get_or_compute(make_key(), Encoder())).tier == "l3"
    await fresh.close()


async def test_mass_corruption_is_left_in_place(tmp_path, caplog):
    settings = CacheSettings(url=str(tmp_path), l3_read_deadline_s=PATIENT_S)
    store = LocalStore(tmp_path)
    for i in range(30):
        store.create(make_key(str(i)).path, b"garbage")
    cache = open_cache(settings, SCHEMA)
    for i in range(30):
        assert (await cache.get_or_compute(make_key(str(i)), Encoder())).tier == "miss"
    await cache.close()
    assert len(list((tmp_path / "quarantine").iterdir())) == 19
    assert "leaving them in place" in caplog.text


async def test_a_slow_store_delays_by_its_deadline_and_never_the_loop(tmp_path, monkeypatch):
    """The store answers only after the request was answered, which takes a free loop."""
    store, may_go_on, was_let_go = LocalStore(tmp_path), threading.Event(), []
    original = store.get

    def slow(path, max_bytes):
        was_let_go.append(may_go_on.wait(PATIENT_S))
        return original(path, max_bytes)

    monkeypatch.setattr(store, "get", slow)
    settings = CacheSettings(l3_read_deadline_s=0.1)
    cache = VoiceCache(SCHEMA, [PersistentTier(store, settings)], settings)
    started_s = time.monotonic()
    result = await cache.get_or_compute(make_key(), Encoder())
    assert time.monotonic() - started_s >= 0.1
    may_go_on.set()
    assert result.tier == "miss"
    assert cache.stats().requests["voice", "l3", "error"] == 1
    await until(lambda: was_let_go == [True])
    await cache.close()


async def test_a_restart_finds_what_was_written_back(tmp_path):
    settings = CacheSettings(url=str(tmp_path), l3_read_deadline_s=PATIENT_S)
    first, encode = open_cache(settings, SCHEMA), Encoder()
    await first.start()
    await first.get_or_compute(make_key(), encode)
    first.publish_alias(ALIAS_KEY, Alias(make_key().clip_digest, 1.0))
    await first.close()
    second = open_cache(settings, SCHEMA)
    await second.start()
    alias = await second.find_alias(ALIAS_KEY)
    assert alias == Alias(make_key().clip_digest, 1.0)
    result = await second.get_or_compute(VoiceKey("shared", alias.clip_digest, FINGERPRINT), encode)
    assert (result.tier, result.is_durable, encode.calls) == ("l3", True, 1)
    assert same(result.record, make_record())
    await second.close()


async def test_a_damaged_file_is_quarantined_and_replaced(tmp_path):
    settings = CacheSettings(url=str(tmp_path), l3_read_deadline_s=PATIENT_S)
    first = open_cache(settings, SCHEMA)
    assert (await first.get_or_compute(make_key(), Encoder(), durable=True)).is_durable
    await first.close()
    file = tmp_path / make_key().path
    file.write_bytes(file.read_bytes()[:-100])
    second, encode = open_cache(settings, SCHEMA), Encoder()
    assert (await second.get_or_compute(make_key(), encode)).tier == "miss"
    await second.close()
    assert len(list((tmp_path / "quarantine").iterdir())) == 1
    third = open_cache(settings, SCHEMA)
    assert (await third.get_or_compute(make_key(), encode)).tier == "l3"
    assert encode.calls == 1
    await third.close()


async def test_a_read_only_directory_is_read_and_says_so(tmp_path, monkeypatch, caplog):
    settings = CacheSettings(url=str(tmp_path), l3_read_deadline_s=PATIENT_S, flush_deadline_s=0)
    first, encode = open_cache(settings, SCHEMA), Encoder()
    for name in "ab":
        await first.get_or_compute(make_key(name), encode, durable=True)
    await first.close()
    for file in tmp_path.rglob("*.sva"):
        os.utime(file, (time.time() - 7 * 86_400,) * 2)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("utime", "link", "mkdir", "unlink", "rename", "replace"):
        monkeypatch.setattr(f"cache_store.local_store.os.{name}", refuse)
    opened = Path.open

    def open_to_read(path, mode="r", *args, **kwargs):
        return opened(path, mode, *args, **kwargs) if mode == "rb" else refuse()

    monkeypatch.setattr(Path, "open", open_to_read)
    second = open_cache(settings, SCHEMA)
    await second.start()
    assert [(await second.get_or_compute(make_key(n), encode)).tier for n in "ab"] == ["l3"] * 2
    result = await second.get_or_compute(make_key("c"), encode, durable=True)
    assert (result.tier, result.is_durable) == ("miss", False)
    assert list(second.unhealthy_tiers()) == ["l3 writing"]
    assert "Read-only" in second.unhealthy_tiers()["l3 writing"]
    for _ in range(9):
        assert (await second.get_or_compute(make_key("c"), encode)).tier == "l1"
    assert "try 1 of" not in caplog.text
    await second.close()


async def test_a_running_cache_keeps_its_directory_within_its_budget(tmp_path):
    settings = CacheSettings(url=str(tmp_path), l3_max_bytes=100_000, gc_interval_s=0.05)
    cache = open_cache(settings, SCHEMA)
    await cache.start()
    for i in range(20):  # 18 kB each
        await cache.get_or_compute(make_key(str(i)), Encoder(), durable=True)
    for file in tmp_path.rglob("*.sva"):
        os.utime(file, (time.time() - 7200,) * 2)
    await until(lambda: cache.stats().tiers["l3"]["collected"] >= 15)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.sva")) <= 100_000
    await cache.close()


@pytest.mark.slow
async def test_s3_end_to_end(s3_server):
    settings = CacheSettings(
        url=f"s3://{s3_server.bucket}/tiered",
        storage_options=s3_server.storage_options,
        l3_read_deadline_s=PATIENT_S,
        connect_timeout_s=PATIENT_S,
        read_timeout_s=PATIENT_S,
    )
    first, encode = open_cache(settings, SCHEMA), Encoder()
    await first.start()
    result = await first.get_or_compute(make_key(), encode, durable=True)
    assert (result.tier, result.is_durable) == ("miss", True)
    await first.close()
    second = open_cache(settings, SCHEMA)
    await second.start()
    assert (await second.get_or_compute(make_key(), encode)).tier == "l3"
    assert encode.calls == 1
    await second.close()


@pytest.mark.slow
async def test_start_goes_on_without_its_store(s3_server, caplog):
    options = {**s3_server.storage_options, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    cache = open_cache(
        CacheSettings(url="s3://voices/x", storage_options=options, writeback_tries=1), SCHEMA
    )
    await cache.start()
    assert "going on without it" in caplog.text
    assert (await cache.get_or_compute(make_key(), Encoder())).tier == "miss"
    await cache.close()
