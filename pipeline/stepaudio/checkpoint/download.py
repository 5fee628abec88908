"""Fetches the published checkpoints by name and revision from Hugging Face or ModelScope."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import httpx

from pipeline.errors import ConfigError, DownloadError
from pipeline.stepaudio.checkpoint.digests import OFFICIAL, sha256_of
from pipeline.stepaudio.checkpoint.mirror_paths import check_distinct, check_paths, check_place
from pipeline.stepaudio.checkpoint.progress import ByteProgress, NoProgress
from pipeline.stepaudio.layout import (
    EDITX_REPOSITORIES,
    PARAFORMER,
    TOKENIZER_REPOSITORY,
    VOCODER,
    download_directory,
)

OWNER = "stepfun-ai"
NAMES = dict(zip(("step-audio-editx", "step-audio-editx-awq"), EDITX_REPOSITORIES, strict=True))
TOKENIZER_PATTERNS = (
    "linguistic_tokenizer.npy",
    "speech_tokenizer_v1.onnx",
    f"{PARAFORMER}/model.pt",
    f"{PARAFORMER}/am.mvn",
    f"{PARAFORMER}/config.yaml",
)
EDITX_PATTERNS = (
    "config.json",
    "tokenizer.model",
    "model*.safetensors",
    f"{VOCODER}/cosyvoice.yaml",
    f"{VOCODER}/flow.pt",
    f"{VOCODER}/hift.pt",
    f"{VOCODER}/campplus.onnx",
)
OPTIONAL_PATTERNS = (
    "model.safetensors.index.json",
    "generation_config.json",
    f"{PARAFORMER}/tokens.json",  # of the recogniser, which a service may deploy
)
CONNECT_TIMEOUT_S = 5.0  # so that an offline machine fails fast
READ_TIMEOUT_S = 30.0
ATTEMPTS = 5  # per file; each resumes where the last one was cut
BACKOFF_S = 0.5  # before the second attempt; doubles
PARTIAL = ".part"
MEANINGS = {
    401: "the repository is private or does not exist",
    404: "no such repository or revision",
    429: "too many requests; wait a while",
}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a repository.

    Its content is checked against sha256 or git_oid (git's SHA-1 of the blob).
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    git_oid: str | None = None

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError for an invalid entry of a file list."""
        if not isinstance(self.path, str) or not isinstance(self.size_bytes, int):
            raise TypeError(f"a path and a size are {self.path!r} and {self.size_bytes!r}")
        if self.size_bytes < 0:
            raise ValueError(f"the size of {self.path!r} is {self.size_bytes}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A repository at a revision; files that match `patterns` are needed."""

    repository: str
    revision: str
    patterns: tuple[str, ...]


class Source(Protocol):
    """A place that publishes repositories."""

    default_revision: str
    tokenizer_revision: str

    def files(self, client: httpx.Client, repository: str, revision: str) -> Iterator[RemoteFile]:
        """Every file of a repository. Raises httpx.HTTPError."""
        ...

    def url(self, repository: str, revision: str, path: str) -> str:
        """URL of a file's bytes; supports ranges."""
        ...


class HuggingFace:
    """The Hugging Face hub, or a mirror named by HF_ENDPOINT."""

    default_revision = "main"
    tokenizer_revision = "af7e5a3ec06175a7facae9d4100073d6e4dbb36c"

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co"

    def files(self, client: httpx.Client, repository: str, revision: str) -> Iterator[RemoteFile]:
        tree = f"api/models/{repository}/tree/{quote(revision, safe='')}"
        url = f"{self._endpoint}/{tree}?recursive=true"
        while url:
            response = client.get(url)
            response.raise_for_status()
            for entry in response.json():
                if entry["type"] == "file":
                    lfs = entry.get("lfs")
                    yield RemoteFile(
                        path=entry["path"],
                        size_bytes=entry["size"],
                        sha256=lfs["oid"] if lfs else None,
                        git_oid=None if lfs else entry["oid"],
                    )
            url = response.links.get("next", {}).get("url", "")

    def url(self, repository: str, revision: str, path: str) -> str:
        return f"{self._endpoint}/{repository}/resolve/{quote(revision, safe='')}/{quote(path)}"


class ModelScope:
    """The ModelScope hub, or a mirror named by MODELSCOPE_ENDPOINT."""

    default_revision = "master"
    tokenizer_revision = "master"  # commits have other names than Hugging Face's; digests hold

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = (
            endpoint or os.environ.get("MODELSCOPE_ENDPOINT") or "https://www.modelscope.cn"
        )

    def files(self, client: httpx.Client, repository: str, revision: str) -> Iterator[RemoteFile]:
        response = client.get(
            f"{self._endpoint}/api/v1/models/{repository}/repo/files",
            params={"Revision": revision, "Recursive": "true"},
        )
        response.raise_for_status()
        for entry in response.json()["Data"]["Files"]:
            if entry["Type"] == "blob":
                yield RemoteFile(entry["Path"], entry["Size"], sha256=entry.get("Sha256") or None)

    def url(self, repository: str, revision: str, path: str) -> str:
        query = f"Revision={quote(revision, safe='')}&FilePath={quote(path, safe='')}"
        return f"{self._endpoint}/api/v1/models/{repository}/repo?{query}"


SOURCES: dict[str, Callable[[str | None], Source]] = {
    "huggingface": HuggingFace,
    "modelscope": ModelScope,
}


def download_checkpoint(
    name: str,
    *,
    revision: str | None = None,
    source: str = "huggingface",
    directory: Path | None = None,
    endpoint: str | None = None,
    progress: ByteProgress | None = None,
) -> Path:
    """Fetch a published checkpoint and the tokenizer repository; resumes an interrupted call.

    name: step-audio-editx or step-audio-editx-awq. revision: of the named repository; the source's
    default branch if None. Every file is checked against the digest that the source publishes and
    the one that we know. Raises ConfigError for an unknown name or source, DownloadError when the
    fetch cannot be completed.
    """
    if name not in NAMES:
        raise ConfigError(f"no checkpoint is called {name!r}; there are {', '.join(NAMES)}")
    if source not in SOURCES:
        raise ConfigError(f"no source is called {source!r}; there are {', '.join(SOURCES)}")
    place = SOURCES[source](endpoint)
    root = directory or download_directory(name)
    repositories = (
        Wanted(TOKENIZER_REPOSITORY, place.tokenizer_revision, TOKENIZER_PATTERNS),
        Wanted(NAMES[name], revision or place.default_revision, EDITX_PATTERNS),
    )
    try:
        with _client() as client:
            fetch = _Fetch(client, place, root, progress or NoProgress())
            listed = [(wanted, fetch.listing(wanted)) for wanted in repositories]
            fetch.check_space([file for _, files in listed for file in files])
            for wanted, files in listed:
                for file in files:
                    fetch.file(wanted, file)
    except httpx.HTTPError as error:
        raise DownloadError(f"{_reason(error)}. {_by_hand(root, repositories)}") from error
    except OSError as error:
        raise DownloadError(f"cannot write to {root}: {error}") from error
    return root


def _client() -> httpx.Client:
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        return httpx.Client(timeout=timeout, follow_redirects=True)
    except (ImportError, ValueError) as error:  # SOCKS without its package; an unknown scheme
        raise DownloadError(f"the proxy in the environment cannot be used: {error}") from error


class _Fetch:
    """One download: connection, source and directory of all its files."""

    def __init__(
        self, client: httpx.Client, source: Source, root: Path, progress: ByteProgress
    ) -> None:
        self._client = client
        self._source = source
        self._root = root
        self._progress = progress

    def listing(self, wanted: Wanted) -> list[RemoteFile]:
        """The needed files of a repository; DownloadError names those that it lacks."""
        repository = f"{OWNER}/{wanted.repository}"
        try:
            files = list(self._source.files(self._client, repository, wanted.revision))
        except (ValueError, KeyError, TypeError) as error:
            raise DownloadError(
                f"the list of files of {repository} is not in a form we know: {error!r}"
            ) from error
        check_paths((file.path for file in files), repository)
        lacking = [
            pattern
            for pattern in wanted.patterns
            if not any(fnmatch(file.path, pattern) for file in files)
        ]
        if lacking:
            raise DownloadError(
                f"{repository} at revision {wanted.revision} lacks {', '.join(lacking)}"
            )
        patterns = wanted.patterns + OPTIONAL_PATTERNS
        needed = [file for file in files if any(fnmatch(file.path, pat) for pat in patterns)]
        check_distinct((file.path for file in needed), repository)
        return needed

    def check_space(self, files: list[RemoteFile]) -> None:
        """DownloadError when the disk cannot hold what is listed and not there yet."""
        self._root.mkdir(parents=True, exist_ok=True)
        there = sum(path.stat().st_size for path in self._root.rglob("*") if path.is_file())
        needed = sum(file.size_bytes for file in files) - there
        free = shutil.disk_usage(self._root).free
        if needed > free:
            raise DownloadError(
                f"{self._root} has {free / 1e9:.1f} GB free; "
                f"the download needs {needed / 1e9:.1f} GB more"
            )

    def file(self, wanted: Wanted, remote: RemoteFile) -> None:
        """Fetch one file. It gets its name only when complete and checked."""
        directory = self._root / wanted.repository
        target = directory / remote.path
        if target.is_file() and target.stat().st_size == remote.size_bytes:
            return
        partial = target.with_name(target.name + PARTIAL)
        for path in (target, partial):
            check_place(directory, path)
        partial.parent.mkdir(parents=True, exist_ok=True)
        url = self._source.url(f"{OWNER}/{wanted.repository}", wanted.revision, remote.path)
        done = partial.stat().st_size if partial.is_file() else 0
        self._progress.begin(remote.path.rpartition("/")[2], remote.size_bytes, done)
        self._bring(url, partial, remote.size_bytes)
        self._check(partial, remote, f"{wanted.repository}/{remote.path}")
        partial.replace(target)

    def _bring(self, url: str, partial: Path, size_bytes: int) -> None:
        """Append to the partial file until it has its size, across interruptions."""
        for attempt in range(ATTEMPTS):
            try:
                self._append(url, partial, size_bytes)
            except httpx.TransportError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(BACKOFF_S * 2**attempt)
            else:
                return

    def _append(self, url: str, partial: Path, size_bytes: int) -> None:
        partial.touch()
        done = partial.stat().st_size
        if done > size_bytes:  # of another revision
            partial.write_bytes(b"")
            self._progress.advance(-done)
            done = 0
        if done == size_bytes:
            return
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
        with self._client.stream("GET", url, headers=headers) as response:
            response.raise_for_status()
            is_rest = response.status_code == httpx.codes.PARTIAL_CONTENT
            if not is_rest:  # a server without ranges sends everything again
                self._progress.advance(-done)
            with partial.open("ab" if is_rest else "wb") as file:
                for (
                    block
                ) in response.iter_bytes():  # as they arrive: a chunk size would delay bytes
                    file.write(block)
                    self._progress.advance(len(block))

    def _check(self, partial: Path, remote: RemoteFile, path: str) -> None:
        """Raises DownloadError and removes the partial file when size or digest differ."""
        known = OFFICIAL.get(path)
        problem = None
        if partial.stat().st_size != remote.size_bytes:
            problem = f"{partial.stat().st_size:,} bytes came instead of {remote.size_bytes:,}"
        elif remote.sha256 or known:
            digest = sha256_of(partial, self._progress)
            if remote.sha256 and digest != remote.sha256:
                problem = f"its SHA-256 is {digest} and the source says {remote.sha256}"
            elif known and not digest.startswith(known.sha256):
                problem = f"its SHA-256 is {digest}, not the published file's {known.sha256}"
        elif remote.git_oid and _git_oid(partial) != remote.git_oid:
            problem = f"its git object id is not {remote.git_oid}"
        if problem:
            partial.unlink()
            raise DownloadError(f"{path} came damaged or in another version: {problem}; try again")


def _git_oid(path: Path) -> str:
    """Git's SHA-1 of a blob, by which hubs name small files. Reads the whole file."""
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _reason(error: httpx.HTTPError) -> str:
    """The error in words."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        meaning = MEANINGS.get(status, error.response.reason_phrase)
        return f"{error.request.url} answered {status} ({meaning})"
    host = error.request.url.host
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"cannot reach {host}: {error}"
    return f"the connection to {host} was lost {ATTEMPTS} times: {error}; what came is kept"


def _by_hand(root: Path, repositories: tuple[Wanted, ...]) -> str:
    names = " and ".join(f"{OWNER}/{wanted.repository}" for wanted in repositories)
    return (
        f"Run the command again to go on, or copy the files of {names} to {root} by hand, "
        f"each repository in a folder of its name, and run `timbre checkpoint verify {root}`"
    )
