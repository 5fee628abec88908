"""Journals on a real directory: one writer a number, and damage is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cache_store.settings import CacheSettings
from deployments.voices.journal import Entry, Journals, last_numbers
from deployments.voices.shelf import MAX_DOCUMENT_BYTES, MAX_JSON_BYTES, Shelf
from pipeline.errors import StageError, StageUnavailableError

pytestmark = pytest.mark.unit


def shelf_in(directory: Path, **settings: object) -> Shelf:
    shelf = Shelf.open(CacheSettings.model_validate({"url": str(directory), **settings}))
    assert shelf is not None
    return shelf


async def test_a_number_is_written_once_by_whoever_is_first(tmp_path: Path):
    writers = [Journals(shelf_in(tmp_path)) for _ in range(8)]
    for number in range(3):
        won = await asyncio.gather(
            *(writer.append("a/b", number, {"by": who}) for who, writer in enumerate(writers))
        )
        assert won.count(True) == 1
        for reader in writers:
            last = await reader.last("a/b")
            assert last == Entry(number, {"by": won.index(True)})


async def test_the_same_document_again_is_no_conflict(tmp_path: Path):
    journals = Journals(shelf_in(tmp_path))
    assert await journals.append("a", 0, {"x": 1})
    assert await journals.append("a", 0, {"x": 1})
    assert not await journals.append("a", 0, {"x": 2})


async def test_what_follows_an_entry_is_found_from_it(tmp_path: Path):
    journals = Journals(shelf_in(tmp_path))
    assert await journals.last("a") is None
    for number in range(4):
        await journals.append("a", number, {"n": number})
    first = await journals.at("a", 0)
    assert first is not None
    assert await journals.after("a", first) == await journals.last("a") == Entry(3, {"n": 3})
    await journals.shorten("a", 3)
    assert await journals.at("a", 2) is None
    assert await journals.last("a") == Entry(3, {"n": 3})


async def test_a_damaged_or_moved_document_is_told_and_not_believed(tmp_path: Path):
    journals = Journals(shelf_in(tmp_path))
    await journals.append("mine", 0, {"owner": "me"})
    file = tmp_path / "mine" / "00000000.json"
    moved = tmp_path / "yours" / file.name
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    damaged = tmp_path / "theirs" / file.name
    damaged.parent.mkdir()
    damaged.write_bytes(file.read_bytes().replace(b"me", b"us"))
    for directory in ("yours", "theirs"):
        with pytest.raises(StageError, match="damaged"):
            await Journals(shelf_in(tmp_path)).last(directory)


async def test_a_document_that_could_not_be_read_again_is_refused(tmp_path: Path):
    shelf = shelf_in(tmp_path)
    room = len(json.dumps({"text": ""}))
    fits = {"text": "x" * (MAX_JSON_BYTES - room)}
    assert await shelf.publish("a/fits.json", fits)
    assert await shelf_in(tmp_path).read("a/fits.json") == fits
    for text in ("x" * MAX_DOCUMENT_BYTES, "語" * (MAX_DOCUMENT_BYTES // 6)):
        with pytest.raises(StageError, match="too large to be kept"):
            await shelf.publish("a/large.json", {"text": text})
        assert await shelf.read("a/large.json") is None
    assert await shelf.names("a") == ["fits.json"]


async def test_a_seal_of_any_key_fits_beside_the_largest_document(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("KEYS", f"{'k' * 16}:0123456789abcdef")
    room = len(json.dumps({"text": ""}))
    fits = {"text": "x" * (MAX_JSON_BYTES - room)}
    assert await shelf_in(tmp_path, mac_keys_env="KEYS").publish("fits.json", fits)
    assert await shelf_in(tmp_path, mac_keys_env="KEYS").read("fits.json") == fits


async def test_documents_are_sealed_with_the_caches_secret(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("KEYS", "new:0123456789abcdef,old:fedcba9876543210")
    await Journals(shelf_in(tmp_path)).append("forged", 0, {})
    keyed = Journals(shelf_in(tmp_path, mac_keys_env="KEYS"))
    with pytest.raises(StageError):
        await keyed.last("forged")
    await keyed.append("sealed", 0, {"x": 1})
    monkeypatch.setenv("KEYS", "next:0000111122223333,new:0123456789abcdef")
    assert await Journals(shelf_in(tmp_path, mac_keys_env="KEYS")).last("sealed")


async def test_a_store_that_fails_is_named_without_its_address(tmp_path: Path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StageUnavailableError) as caught:
        await Journals(shelf_in(tmp_path / "file")).append("a", 0, {})
    assert str(tmp_path) not in caught.value.message


async def test_no_store_no_shelf():
    assert Shelf.open(CacheSettings(url="none")) is None


def test_the_newest_of_several_journals():
    paths = ["a/00000000.json", "a/00000002.json", "b/c/00000001.json", "a/x.json", "b/c/1.json"]
    assert last_numbers(paths) == {"a": 2, "b/c": 1}
