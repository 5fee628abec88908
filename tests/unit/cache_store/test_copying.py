"""A store copied into another: all of it, again, and what neither may hide."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache_store.copying import Copied, copy_objects, objects
from cache_store.errors import StoreError
from cache_store.fsspec_store import FsspecStore
from cache_store.local_store import LocalStore
from cache_store.settings import CacheSettings
from cache_store.store import BlobInfo, BlobStore
from tests.cache_helpers import S3Server

pytestmark = pytest.mark.unit
KEPT = {"v1/a/shared/00/1.sva": b"record", "access/v1/keys/2": b"key", "voices/v1/3/4": b""}


@pytest.fixture
def source(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "source")
    for path, data in KEPT.items():
        store.create(path, data)
    (tmp_path / "source" / "tmp").mkdir(exist_ok=True)
    (tmp_path / "source" / "tmp" / "half").write_bytes(b"half written")
    return store


def kept(store: BlobStore) -> dict[str, bytes | None]:
    return {one.path: store.get(one.path, 100) for one in objects(store)}


def test_all_of_it_once_and_then_what_is_new(source: LocalStore, s3_server: S3Server) -> None:
    settings = CacheSettings(storage_options=s3_server.storage_options)
    target = FsspecStore(f"s3://{s3_server.bucket}/copy", settings)
    assert copy_objects(source, target, objects(source)) == Copied(3, 0, 9)
    assert kept(target) == KEPT
    source.create("v1/a/shared/00/5.sva", b"new")
    assert copy_objects(source, target, objects(source)) == Copied(1, 3, 3)
    back = LocalStore(Path(source._root).parent / "back")
    copy_objects(target, back, objects(target))
    assert kept(back) == kept(source)


def test_what_the_target_has_is_not_written_over(source: LocalStore, tmp_path: Path) -> None:
    target = LocalStore(tmp_path / "target")
    target.create("access/v1/keys/2", b"its own")
    assert copy_objects(source, target, objects(source)).known == 1
    assert target.get("access/v1/keys/2", 100) == b"its own"


def test_what_went_meanwhile_is_left_out_and_what_grew_is_said(
    source: LocalStore, tmp_path: Path
) -> None:
    target = LocalStore(tmp_path / "target")
    gone = [BlobInfo("v1/a/gone", 3, 0.0)]
    assert copy_objects(source, target, gone) == Copied()
    wrong = [BlobInfo("v1/a/shared/00/1.sva", 3, 0.0)]
    with pytest.raises(StoreError, match="is listed with others"):
        copy_objects(source, target, wrong)
