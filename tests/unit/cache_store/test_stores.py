"""One contract for every store, over a local directory, memory:// and a real S3 server.

Raw reads and writes in here bypass the store, so that it is not asked to vouch for itself.
"""

from __future__ import annotations

import errno
import os
import threading
import uuid
from pathlib import Path

import pytest

from cache_store.errors import StoreDenied, StoreError
from cache_store.fsspec_store import FsspecStore
from cache_store.local_store import LocalStore
from cache_store.opening import open_store
from cache_store.settings import CacheSettings
from cache_store.store import BlobStore
from tests.cache_helpers import S3Server

pytestmark = pytest.mark.unit
PATIENCE = {"connect_timeout_s": 60.0, "read_timeout_s": 60.0}

PATH = "v1/abcd/shared/00/0011.sva"
LIMIT = 1 << 20


class StoreContract:
    """Inherit, and provide a `store` fixture and raw access to its objects."""

    @pytest.fixture
    def store(self) -> BlobStore:
        raise NotImplementedError

    def raw_get(self, path: str) -> bytes | None:
        raise NotImplementedError

    def raw_put(self, path: str, data: bytes) -> None:
        raise NotImplementedError

    def raw_list(self) -> set[str]:
        raise NotImplementedError

    def test_absent_is_none(self, store):
        assert store.get(PATH, LIMIT) is None

    def test_create_then_get(self, store):
        assert store.create(PATH, b"record") is True
        assert self.raw_get(PATH) == b"record"
        assert store.get(PATH, LIMIT) == b"record"

    def test_get_sees_what_others_wrote(self, store):
        self.raw_put(PATH, b"\0" * 70_000)
        assert store.get(PATH, LIMIT) == b"\0" * 70_000

    def test_the_first_writer_wins(self, store):
        assert store.create(PATH, b"first") is True
        assert store.create(PATH, b"second") is False
        assert self.raw_get(PATH) == b"first"

    def test_reading_is_bounded(self, store):
        self.raw_put(PATH, b"x" * 1000)
        assert store.get(PATH, 100) == b"x" * 101
        assert store.get(PATH, 1000) == b"x" * 1000

    def test_an_empty_object_is_not_absent(self, store):
        self.raw_put(PATH, b"")
        assert store.get(PATH, LIMIT) == b""

    def test_delete(self, store):
        store.create(PATH, b"record")
        store.delete(PATH)
        assert self.raw_get(PATH) is None
        store.delete(PATH)
        assert store.create(PATH, b"again") is True

    @pytest.mark.slow
    def test_quarantine_frees_the_name_and_keeps_a_copy(self, store):
        self.raw_put(PATH, b"damaged")
        store.quarantine(PATH, b"damaged")
        assert self.raw_get(PATH) is None
        kept = [path for path in self.raw_list() if path.startswith("quarantine/")]
        assert len(kept) == 1
        assert self.raw_get(kept[0]) == b"damaged"
        assert store.create(PATH, b"good") is True
        store.quarantine("v1/abcd/shared/00/absent.sva", b"")

    def test_list_is_below_the_prefix_only(self, store):
        paths = {f"v1/abcd/shared/0{i}/{i}.sva" for i in range(3)}
        for path in paths:
            store.create(path, b"12345")
        store.create("v1/ffff/shared/00/x.sva", b"")
        found = list(store.list("v1/abcd"))
        assert {info.path for info in found} == paths
        assert {info.size_bytes for info in found} == {5}
        assert all(info.modified_unix_s > 1.6e9 for info in found)
        assert list(store.list("v1/none")) == []

    def test_names_are_those_right_below(self, store):
        for path in ("v1/abcd/shared/00/a.sva", "v1/abcd/shared/01/b.sva", "v1/.probe"):
            store.create(path, b"x")
        assert sorted(store.names("v1")) == [".probe", "abcd"]
        assert sorted(store.names("v1/abcd/shared")) == ["00", "01"]
        assert store.names("v1/abcd/shared/00") == ["a.sva"]
        assert store.names("v1/abc") == store.names("none/at/all") == []

    def test_a_damaged_object_goes_even_where_no_copy_can_be_kept(self, store, monkeypatch):
        self.raw_put(PATH, b"damaged")
        with monkeypatch.context() as patch:
            self.refuse_copies(patch, store)
            store.quarantine(PATH, b"damaged")
        assert self.raw_get(PATH) is None
        assert store.create(PATH, b"good") is True

    def refuse_copies(self, patch, store) -> None:
        """Let nothing be written into the quarantine."""

        def refuse(*_: object) -> None:
            raise StoreDenied("403")

        patch.setattr(store, "create", refuse)

    def test_one_of_many_concurrent_writers_wins(self, store):
        results: list[bool] = []
        barrier = threading.Barrier(8)

        def write(number: int) -> None:
            barrier.wait()
            results.append(store.create(PATH, bytes([number]) * 50_000))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results.count(True) == 1
        content = self.raw_get(PATH)
        assert content is not None
        assert len(set(content)) == 1

    def test_no_path_leaves_the_store(self, store):
        for path in ("../x", "v1/../../x"):
            with pytest.raises(ValueError, match="leaves the store"):
                store.get(path, LIMIT)
            with pytest.raises(ValueError, match="leaves the store"):
                store.create(path, b"")


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        self.root = tmp_path / "cache"
        return LocalStore(self.root)

    def raw_get(self, path):
        file = self.root / path
        return file.read_bytes() if file.exists() else None

    def raw_put(self, path, data):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def raw_list(self):
        return {f.relative_to(self.root).as_posix() for f in self.root.rglob("*") if f.is_file()}

    def refuse_copies(self, patch, store):
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        patch.setattr(Path, "replace", refuse)

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSYS])
    def test_a_file_whose_times_cannot_be_set_is_read(self, store, monkeypatch, caplog, code):
        self.raw_put(PATH, b"record")
        os.utime(self.root / PATH, (1e9, 1e9))

        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr("cache_store.local_store.os.utime", refuse)
        assert [store.get(PATH, LIMIT) for _ in range(3)] == [b"record"] * 3
        assert caplog.text.count("keeps no times of use") == 1

    def test_a_staged_file_that_cannot_be_removed_does_not_undo_the_write(self, store, monkeypatch):
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "unlink", refuse)
        assert store.create(PATH, b"record") is True
        assert store.create(PATH, b"record") is False
        assert self.raw_get(PATH) == b"record"

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
    def test_a_directory_that_takes_no_writes_is_a_refusal(self, store, monkeypatch, code):
        def refuse(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(StoreDenied):
            store.create(PATH, b"record")

    def test_nothing_but_the_object_is_left(self, store):
        store.create(PATH, b"record")
        store.create(PATH, b"record")
        assert self.raw_list() == {PATH}

    def test_a_file_system_without_hard_links(self, store, monkeypatch):
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("cache_store.local_store.os.link", refuse)
        assert store.create(PATH, b"first") is True
        assert store.create(PATH, b"second") is False
        assert self.raw_list() == {PATH}

    def test_failures_are_store_errors(self, store):
        self.root.mkdir()
        (self.root / "v1").write_bytes(b"a file where a directory belongs")
        with pytest.raises(StoreError, match="read"):
            store.get(PATH, LIMIT)
        with pytest.raises(StoreError, match="create"):
            store.create(PATH, b"")
        assert self.raw_list() == {"v1"}

    def test_fsync_publishes_the_same(self, tmp_path):
        store = LocalStore(tmp_path, fsync=True)
        assert store.create(PATH, b"record") is True
        assert store.get(PATH, LIMIT) == b"record"


class TestMemoryUrl(StoreContract):
    @pytest.fixture
    def store(self):
        from fsspec.implementations.memory import MemoryFileSystem

        self.fs = MemoryFileSystem()
        self.root = f"/{uuid.uuid4().hex}/voices"
        return FsspecStore(f"memory:/{self.root}", CacheSettings())

    def raw_get(self, path):
        full = f"{self.root}/{path}"
        return self.fs.store[full].getvalue() if full in self.fs.store else None

    def raw_put(self, path, data):
        self.fs.pipe_file(f"{self.root}/{path}", data)

    def raw_list(self):
        return {n.removeprefix(self.root + "/") for n in self.fs.store if n.startswith(self.root)}


class TestS3(StoreContract):
    @pytest.fixture
    def store(self, s3_server: S3Server):
        import boto3

        self.prefix = uuid.uuid4().hex
        self.bucket = s3_server.bucket
        self.client = boto3.client(
            "s3",
            endpoint_url=s3_server.endpoint,
            aws_access_key_id=s3_server.access_key_id,
            aws_secret_access_key=s3_server.secret,
            region_name="us-east-1",
        )
        url = f"s3://{self.bucket}/{self.prefix}"
        return FsspecStore(
            url, CacheSettings(storage_options=s3_server.storage_options, **PATIENCE)
        )

    def raw_get(self, path):
        try:
            found = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{path}")
        except self.client.exceptions.NoSuchKey:
            return None
        return found["Body"].read()

    def raw_put(self, path, data):
        self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{path}", Body=data)

    def raw_list(self):
        listing = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix)
        return {o["Key"].removeprefix(self.prefix + "/") for o in listing.get("Contents", [])}

    @pytest.mark.slow
    def test_one_request_per_operation(self, store, monkeypatch):
        store.get(PATH, LIMIT)  # connect
        calls: list[str] = []
        original = store._fs._call_s3

        async def counting(method: str, *args: object, **kwargs: object) -> object:
            calls.append(method)
            return await original(method, *args, **kwargs)

        monkeypatch.setattr(store._fs, "_call_s3", counting)
        assert store.create(PATH, b"record") is True
        assert store.get(PATH, LIMIT) == b"record"
        assert store.get("v1/absent", LIMIT) is None
        assert store.create(PATH, b"record") is False
        assert calls == ["put_object", "get_object", "get_object", "put_object"]

    @pytest.mark.parametrize("field", ["key", "secret"])
    def test_wrong_credentials_are_denied(self, s3_server, field):
        options = {**s3_server.storage_options, field: "wrong"}
        url = f"s3://{s3_server.bucket}/x"
        store = FsspecStore(url, CacheSettings(storage_options=options, **PATIENCE))
        with pytest.raises(StoreDenied):
            store.get(PATH, LIMIT)
        with pytest.raises(StoreDenied):
            store.create(PATH, b"")

    def test_another_bucket_is_denied_and_none_is_an_error(self, s3_server):
        settings = CacheSettings(storage_options=s3_server.storage_options, **PATIENCE)
        with pytest.raises(StoreError):
            FsspecStore("s3://not-mine/x", settings).get(PATH, LIMIT)

    def test_nobody_listening_is_an_error_soon(self, s3_server):
        options = {
            **s3_server.storage_options,
            "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"},
        }
        store = FsspecStore("s3://voices/x", CacheSettings(storage_options=options))
        with pytest.raises(StoreError):
            store.get(PATH, LIMIT)

    def test_every_wording_of_exists_is_understood(self, store, monkeypatch):
        from botocore.exceptions import ClientError
        from s3fs.errors import translate_boto_error

        store.get(PATH, LIMIT)
        for code, condition in [
            ("PreconditionFailed", "If-None-Match"),
            ("PreconditionFailed", ""),
            ("ConditionalRequestConflict", ""),
            ("412", ""),
        ]:
            reply = {"Error": {"Code": code, "Condition": condition, "Message": "no"}}
            error = translate_boto_error(ClientError(reply, "PutObject"))

            def refuse(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            monkeypatch.setattr(store._fs, "pipe_file", refuse)
            assert store.create(PATH, b"") is False, code


def test_urls_choose_the_store(tmp_path):
    assert isinstance(open_store(CacheSettings(url=str(tmp_path))), LocalStore)
    assert isinstance(open_store(CacheSettings(url=f"file://{tmp_path}")), LocalStore)
    assert isinstance(open_store(CacheSettings(url="s3://bucket/x")), FsspecStore)
    assert open_store(CacheSettings(url="none")) is None


def test_s3fs_is_a_modern_one():
    """A bad resolution falls back to 0.4.2, which knows none of what we rely on."""
    import s3fs

    assert s3fs.__version__ >= "2026"


def test_the_home_directory_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    LocalStore("~/voices").create(PATH, b"x")
    assert Path(tmp_path, "voices", PATH).read_bytes() == b"x"
