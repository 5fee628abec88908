"""L3 behind an fsspec URL: one request per operation, short timeouts, all forms of "exists".

S3 credentials come from the environment (AWS_ACCESS_KEY_ID and the rest, AWS_ENDPOINT_URL).
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, cast

from cache_store.errors import StoreDenied, StoreError
from cache_store.settings import CacheSettings
from cache_store.store import MAX_QUARANTINED, QUARANTINE, REFUSALS, BlobInfo, aside_name

logger = logging.getLogger(__name__)

_EXISTS_CODES = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_S3_SCHEMES = {"s3", "s3a"}


class FsspecStore:
    """Objects below an fsspec URL. The file system is made at first use, in the using process.

    Create-only publication is as strong as the server's: a server that ignores the condition
    overwrites with an equally valid record, because names are content addresses.
    """

    def __init__(self, url: str, settings: CacheSettings) -> None:
        self._url = url.rstrip("/")
        self._options = _options(self._url, settings)
        self._fs: Any = None
        self._root = ""
        self._lock = threading.Lock()
        self._quarantined = 0

    def get(self, path: str, max_bytes: int) -> bytes | None:
        fs, full = self._locate(path)
        try:
            # A bounded range makes it one GET: s3fs asks for the size first when the end is open.
            return cast("bytes", fs.cat_file(full, start=0, end=max_bytes + 1))
        except FileNotFoundError as error:
            if _server_code(error) == "NoSuchBucket":
                raise StoreError(f"read {path}: {error}") from error
            return None
        except Exception as error:  # each fsspec file system raises types of its own
            if _server_code(error) == "InvalidRange":
                return b""  # an empty object has no first byte
            raise _translated(f"read {path}", error) from error

    def create(self, path: str, data: bytes) -> bool:
        fs, full = self._locate(path)
        try:
            fs.pipe_file(full, data, mode="create")
        except Exception as error:  # as above
            if _says_exists(error):
                return False
            raise _translated(f"create {path}", error) from error
        return True

    def delete(self, path: str) -> None:
        fs, full = self._locate(path)
        try:
            fs.rm_file(full)
        except FileNotFoundError:
            return
        except Exception as error:  # as above
            raise _translated(f"delete {path}", error) from error

    def quarantine(self, path: str, data: bytes) -> None:
        if self._quarantined < MAX_QUARANTINED:
            self._quarantined += 1
            try:
                self.create(f"{QUARANTINE}/{aside_name(path)}", data)
            except StoreError as error:
                logger.warning("no copy of the damaged %s is kept: %s", path, error)
        self.delete(path)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        fs, full = self._locate(prefix)
        try:
            found = fs.find(full, detail=True)
        except FileNotFoundError:
            return
        except Exception as error:  # as above
            raise _translated(f"list {prefix}", error) from error
        for name, info in cast("Mapping[str, Mapping[str, Any]]", found).items():
            relative = name.removeprefix(self._root).lstrip("/")
            yield BlobInfo(relative, int(info.get("size") or 0), _modified_unix_s(info))

    def names(self, prefix: str) -> list[str]:
        fs, full = self._locate(prefix)
        try:
            found = cast("list[str]", fs.ls(full, detail=False))
        except FileNotFoundError as error:
            if _server_code(error) == "NoSuchBucket":
                raise StoreError(f"list {prefix}: {error}") from error
            return []
        except Exception as error:  # as above
            raise _translated(f"list {prefix}", error) from error
        return [name.rstrip("/").rpartition("/")[2] for name in found]

    def _locate(self, path: str) -> tuple[Any, str]:
        """The file system, and `path` as it names it."""
        if ".." in path.split("/"):
            raise ValueError(f"path {path!r} leaves the store")
        with self._lock:
            if self._fs is None:
                self._fs, self._root = self._connect()
            return self._fs, f"{self._root}/{path}"

    def _connect(self) -> tuple[Any, str]:
        core: Any = importlib.import_module("fsspec.core")
        try:
            fs, root = cast("tuple[Any, str]", core.url_to_fs(self._url, **self._options))
        except Exception as error:  # as above
            raise _translated(f"open {self._url}", error) from error
        if _scheme(self._url) in _S3_SCHEMES:
            fs.retries = 1  # s3fs multiplies botocore's own retries by this
        return fs, root.rstrip("/")


def _options(url: str, settings: CacheSettings) -> dict[str, Any]:
    """File system arguments; for S3 timeouts, without which a dead endpoint blocks for minutes."""
    if _scheme(url) not in _S3_SCHEMES:
        return dict(settings.storage_options)
    tuned: dict[str, Any] = {
        "connect_timeout": settings.connect_timeout_s,
        "read_timeout": settings.read_timeout_s,
        "retries": {"max_attempts": 1, "mode": "standard"},
        "max_pool_connections": 4 * settings.io_threads,
        # Some S3 servers refuse, and one stores, the chunked bodies of trailing checksums.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    own = dict(settings.storage_options)
    tuned.update(own.pop("config_kwargs", {}))
    return {
        "use_listings_cache": False,
        "skip_instance_cache": True,
        **own,
        "config_kwargs": tuned,
    }


def _scheme(url: str) -> str:
    return url.partition("://")[0]


def _server_code(error: BaseException) -> str | None:
    """The S3 error code behind an exception, if a server sent one."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            details = cast("dict[str, dict[str, Any]]", response)
            return str(details.get("Error", {}).get("Code"))
    return None


def _says_exists(error: Exception) -> bool:
    """s3fs knows only AWS's own wording; others arrive as EINVAL (412) or EIO (409)."""
    return isinstance(error, FileExistsError) or _server_code(error) in _EXISTS_CODES


def _translated(action: str, error: Exception) -> StoreError:
    denied = isinstance(error, PermissionError) or (
        isinstance(error, OSError) and error.errno in REFUSALS
    )
    kind = StoreDenied if denied or type(error).__name__ == "NoCredentialsError" else StoreError
    return kind(f"{action}: {type(error).__name__}: {error}")


def _modified_unix_s(info: Mapping[str, Any]) -> float:
    for name in ("LastModified", "mtime", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return 0.0
