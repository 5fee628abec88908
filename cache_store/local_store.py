"""A BlobStore in a local directory."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cache_store.errors import StoreDenied, StoreError
from cache_store.store import MAX_QUARANTINED, QUARANTINE, REFUSALS, TMP, BlobInfo, aside_name

logger = logging.getLogger(__name__)

TOUCH_AFTER_S = 86_400  # mtime doubles as last use, refreshed daily to avoid a write per read


class LocalStore:
    """Objects as files below a directory. Readers see whole files; the first writer wins."""

    def __init__(self, root: str | Path, *, fsync: bool = False) -> None:
        self._root = Path(root).expanduser().resolve()
        self._fsync = fsync
        self._quarantined = 0
        self._keeps_times = True

    def get(self, path: str, max_bytes: int) -> bytes | None:
        target = self._resolve(path)
        try:
            with target.open("rb") as file:
                data = file.read(max_bytes + 1)
                is_stale = time.time() - os.fstat(file.fileno()).st_mtime > TOUCH_AFTER_S
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _translated(f"read {path}", error) from error
        if is_stale:
            self._touch(target)
        return data

    def create(self, path: str, data: bytes) -> bool:
        target = self._resolve(path)
        staged = self._root / TMP / aside_name(path)
        try:
            self._write(staged, data)
            try:
                return self._publish(staged, target)
            finally:
                with contextlib.suppress(OSError):  # the garbage collector deletes leftovers
                    staged.unlink()
        except OSError as error:
            raise _translated(f"create {path}", error) from error

    def delete(self, path: str) -> None:
        try:
            self._resolve(path).unlink(missing_ok=True)
        except OSError as error:
            raise _translated(f"delete {path}", error) from error

    def quarantine(self, path: str, data: bytes) -> None:
        del data  # a rename keeps the file itself
        if self._quarantined >= MAX_QUARANTINED:
            self.delete(path)
            return
        self._quarantined += 1
        target = self._root / QUARANTINE / aside_name(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._resolve(path).replace(target)
        except FileNotFoundError:
            return  # another reader was faster
        except OSError as error:
            logger.warning("no copy of the damaged %s is kept: %s", path, error)
            self.delete(path)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        top = self._resolve(prefix)
        for directory, _, names in os.walk(top):
            for name in names:
                file = Path(directory, name)
                with contextlib.suppress(FileNotFoundError):  # deleted while we walk
                    status = file.stat()
                    relative = file.relative_to(self._root).as_posix()
                    yield BlobInfo(relative, status.st_size, status.st_mtime)

    def names(self, prefix: str) -> list[str]:
        try:
            return os.listdir(self._resolve(prefix))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _translated(f"list {prefix}", error) from error

    def _touch(self, target: Path) -> None:
        """Note the use for the garbage collector; a failure here fails no read."""
        try:
            os.utime(target)
        except OSError as error:
            if self._keeps_times:
                self._keeps_times = False
                logger.warning("%s keeps no times of use: %s", self._root, error)

    def _resolve(self, path: str) -> Path:
        target = (self._root / path).absolute()
        if ".." in target.parts or not target.is_relative_to(self._root):
            raise ValueError(f"path {path!r} leaves the store")
        return target

    def _write(self, staged: Path, data: bytes) -> None:
        try:
            file = staged.open("xb")
        except FileNotFoundError:
            staged.parent.mkdir(parents=True, exist_ok=True)
            file = staged.open("xb")
        with file:
            file.write(data)
            if self._fsync:
                file.flush()
                os.fsync(file.fileno())

    def _publish(self, staged: Path, target: Path) -> bool:
        """Give the staged file its name; link() fails on a taken name, rename() would replace."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(staged, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            if target.exists():
                return False
            staged.replace(target)  # no hard links here: atomic too; two that race are equal
        if self._fsync:
            _fsync_directory(target.parent)
        return True


def _translated(action: str, error: OSError) -> StoreError:
    is_refused = isinstance(error, PermissionError) or error.errno in REFUSALS
    kind = StoreDenied if is_refused else StoreError
    return kind(f"{action}: {error}")


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
