"""Where uploaded voices lie: sealed JSON documents and clips, in the cache's store, beside it.

Nothing is ever overwritten.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from blake3 import blake3

from cache_store.errors import StoreDenied, StoreError
from cache_store.keyring import Keyring
from cache_store.memory import MemoryTier
from cache_store.opening import open_store
from cache_store.settings import CacheSettings
from cache_store.store import BlobStore
from cache_store.threads import StoreThreads
from pipeline.errors import StageError, StageUnavailableError

ROOT = "voices/v1"
JOBS_ROOT = "jobs/v1"  # what else lies there; see deployments.jobs.store
MAX_DOCUMENT_BYTES = 256 * 2**10
MAX_JSON_BYTES = MAX_DOCUMENT_BYTES - 100  # of one; the rest is for its seal, of 82 at most
TRIES = 3  # of a request to the store; documents are written once, so that again does no harm
GIVE_UP_S = 8.0  # for all tries together: somebody waits
MEMORY_BYTES = 8 * 2**20  # of documents, which never change

T = TypeVar("T")
Document = dict[str, Any]


class Shelf:
    """Documents and clips by path. Use it from one event loop.

    Every method raises StageUnavailableError when the store does not answer in time.
    """

    def __init__(self, blobs: BlobStore, keyring: Keyring, settings: CacheSettings) -> None:
        self._blobs = blobs
        self._keyring = keyring
        self._read_s = settings.connect_timeout_s + settings.read_timeout_s
        self._write_s = settings.l3_write_deadline_s
        self._threads = StoreThreads(settings.io_threads, "voices")
        self._known = MemoryTier[Document](MEMORY_BYTES)

    @classmethod
    def open(cls, settings: CacheSettings) -> Shelf | None:
        """In the store that the cache's settings name; None where they name none.

        A local store syncs: unlike a record, a voice cannot be computed again.
        """
        blobs = open_store(settings.model_copy(update={"fsync": True}))
        if blobs is None:
            return None
        keyring = Keyring.load(file=settings.mac_keys_file, env=settings.mac_keys_env)
        return cls(blobs, keyring, settings)

    def close(self) -> None:
        """Begin nothing new."""
        self._threads.shutdown()

    async def read(self, path: str, *, is_remembered: bool = True) -> Document | None:
        """The document at `path`, None when there is none. Raises StageError for a damaged one.

        is_remembered: it never changes, and may be answered from memory after it was deleted.
        """
        known = self._known.get(path) if is_remembered else None
        if known is not None:
            return known
        data = await self._run(self._read_s, lambda: self._blobs.get(path, MAX_DOCUMENT_BYTES))
        if data is None:
            return None
        document = self._opened(path, data)
        if is_remembered:
            self._known.put(path, document, 4 * len(data) + 500, owner=path.rpartition("/")[0])
        return document

    async def publish(self, path: str, document: Document) -> bool:
        """Write the document once and for all; False when another one has its path.

        Raises StageError for one that is too large to be read again.
        """
        sealed = self._sealed(path, document)
        if len(sealed) > MAX_DOCUMENT_BYTES:
            raise StageError("a document is too large to be kept", detail=path)
        return await self.publish_bytes(path, sealed, MAX_DOCUMENT_BYTES)

    async def read_bytes(self, path: str, max_bytes: int) -> bytes | None:
        """What lies at `path`, unsealed."""
        return await self._run(self._write_s, lambda: self._blobs.get(path, max_bytes))

    async def publish_bytes(self, path: str, data: bytes, max_bytes: int) -> bool:
        """As `publish`, unsealed."""

        def create() -> bool:
            """What an unheard answer left behind is ours all the same."""
            return self._blobs.create(path, data) or self._blobs.get(path, max_bytes) == data

        return await self._run(self._write_s, create)

    async def delete(self, path: str) -> None:
        """Remove what lies at `path`, if anything does."""
        self._known.discard(path)
        await self._run(self._write_s, lambda: self._blobs.delete(path))

    async def names(self, directory: str) -> list[str]:
        """Names right below a directory, in no order."""
        return await self._run(self._read_s, lambda: self._blobs.names(directory))

    async def paths(self, directory: str) -> list[str]:
        """Paths of all that lies below a directory, at any depth, in no order."""
        return await self._run(
            self._write_s, lambda: [blob.path for blob in self._blobs.list(directory)]
        )

    async def size_bytes(self, directory: str) -> int:
        """Of all that lies below a directory."""
        return await self._run(
            self._write_s, lambda: sum(blob.size_bytes for blob in self._blobs.list(directory))
        )

    async def settle(self) -> None:
        """Return when every call that was begun has ended, those that nobody waits for, too."""
        try:
            await self._threads.settle("", self._write_s)
        except StoreError as error:
            raise _away(error) from error

    async def _run(self, deadline_s: float, call: Callable[[], T]) -> T:
        tries, give_up_s = TRIES, time.monotonic() + GIVE_UP_S
        while True:
            tries -= 1
            left_s = give_up_s - time.monotonic()
            try:
                return await self._threads.run(min(deadline_s, left_s), call)
            except StoreError as error:
                is_over = not tries or time.monotonic() >= give_up_s
                if is_over or isinstance(error, StoreDenied):
                    raise _away(error) from error

    def _sealed(self, path: str, document: Document) -> bytes:
        """`{key id} {digest}`, a line's end, JSON."""
        body = json.dumps(document, ensure_ascii=True, sort_keys=True).encode()
        key_id, key = self._keyring.active
        return f"{key_id} {_digest(key, path, body)}\n".encode() + body

    def _opened(self, path: str, data: bytes) -> Document:
        head, _, body = data.partition(b"\n")
        key_id, _, digest = head.decode("ascii", errors="replace").partition(" ")
        key = self._keyring.secret(key_id)
        if key is None or not hmac.compare_digest(_digest(key, path, body), digest):
            raise StageError(
                "a document of the voices is damaged",
                detail=f"{path}: " + ("its digest is wrong" if key else f"unknown key {key_id!r}"),
            )
        return json.loads(body)


def _away(error: StoreError) -> StageUnavailableError:
    return StageUnavailableError("the store of the voices does not answer", detail=str(error))


def _digest(key: bytes, path: str, body: bytes) -> str:
    """Over the path as well: a document that was moved, say to another tenant, is not one."""
    return blake3(path.encode() + b"\0" + body, key=key).hexdigest()
