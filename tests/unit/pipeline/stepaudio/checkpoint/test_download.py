"""Downloads from a real HTTP server on this machine that speaks as the two hubs do."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from pipeline.errors import ConfigError, DownloadError
from pipeline.stepaudio.checkpoint import digests as checkpoint_digests
from pipeline.stepaudio.checkpoint import download as checkpoint_download
from pipeline.stepaudio.checkpoint.download import download_checkpoint
from pipeline.stepaudio.layout import CheckpointLayout

pytestmark = [pytest.mark.unit, pytest.mark.slow]

NAME = "step-audio-editx"
LARGE = "CosyVoice-300M-25Hz/flow.pt"


def _content(path: str) -> bytes:
    size = 300_000 if path.endswith(("flow.pt", ".onnx", ".safetensors")) else 700
    return hashlib.shake_128(path.encode()).digest(size)


def _repositories() -> dict[str, dict[str, bytes]]:
    tokenizer = {path: _content(path) for path in checkpoint_download.TOKENIZER_PATTERNS}
    editx = {
        path: _content(path)
        for path in (
            *(p for p in checkpoint_download.EDITX_PATTERNS if "*" not in p),
            "model-00001.safetensors",
            "model-00002.safetensors",
            "model.safetensors.index.json",
            "README.md",
            "modeling_step1.py",
        )
    }
    return {"stepfun-ai/Step-Audio-Tokenizer": tokenizer, "stepfun-ai/Step-Audio-EditX": editx}


@dataclass
class Hub:
    """What the server has, how it misbehaves, and what it was asked for."""

    files: dict[str, dict[str, bytes]] = field(default_factory=_repositories)
    cut_after_bytes: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # revision, path, Range
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Speaks as Hugging Face and ModelScope do."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        path = unquote(parts.path)
        for repository, files in self.hub.files.items():
            resolve = f"/{repository}/resolve/"
            if path.startswith(f"/api/models/{repository}/tree/"):
                self._json([_hf_entry(name, data) for name, data in files.items()])
            elif path.startswith(resolve):
                revision, _, name = path[len(resolve) :].partition("/")
                self._file(revision, name, files[name])
            elif path == f"/api/v1/models/{repository}/repo/files":
                entries = [_ms_entry(name, data) for name, data in files.items()]
                self._json({"Code": 200, "Data": {"Files": entries}})
            elif path == f"/api/v1/models/{repository}/repo":
                self._file(query["Revision"], query["FilePath"], files[query["FilePath"]])
            else:
                continue
            return
        self.send_error(404)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode())

    def _file(self, revision: str, name: str, data: bytes) -> None:
        asked = self.headers.get("Range")
        self.hub.asked.append((revision, name, asked))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.hub.ranges else 0
        cuts = self.hub.cut_after_bytes.get(name)
        self._send(206 if start else 200, data[start:], cuts.pop(0) if cuts else None)

    def _send(self, status: int, body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


def _hf_entry(name: str, data: bytes) -> dict[str, object]:
    is_lfs = len(data) > 1000
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    lfs = {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}} if is_lfs else {}
    return {"type": "file", "path": name, "size": len(data), "oid": oid, **lfs}


def _ms_entry(name: str, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    return {"Type": "blob", "Path": name, "Size": len(data), "Sha256": digest}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(checkpoint_download, "BACKOFF_S", 0.01)
    monkeypatch.setattr(checkpoint_download, "OFFICIAL", {})  # the server's files are not those
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def _assert_complete(hub: Hub, root: Path) -> None:
    unwanted = {"README.md", "modeling_step1.py"}
    expected = {
        f"{repository.partition('/')[2]}/{name}": data
        for repository, files in hub.files.items()
        for name, data in files.items()
        if name not in unwanted
    }
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    assert found == expected


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_brings_what_the_layout_needs_and_nothing_else(hub: Hub, tmp_path: Path, source: str):
    root = download_checkpoint(
        NAME, revision="v1", source=source, directory=tmp_path, endpoint=hub.url
    )
    assert root == tmp_path
    _assert_complete(hub, root)
    revisions = {name: revision for revision, name, _ in hub.asked}
    assert revisions[LARGE] == "v1"
    assert revisions["linguistic_tokenizer.npy"] != "v1"


def test_a_recognisers_tokens_come_later_to_a_checkpoint_without_them(hub: Hub, tmp_path: Path):
    """The encoder needs none: a download from before there was a recogniser is whole."""
    layout = CheckpointLayout.expected(tmp_path)
    download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    assert not layout.paraformer_tokens.exists()
    name = layout.paraformer_tokens.relative_to(layout.tokenizer).as_posix()
    hub.files["stepfun-ai/Step-Audio-Tokenizer"][name] = b'["<blank>"]'
    hub.asked.clear()
    download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    assert [asked for _, asked, _ in hub.asked] == [name]
    _assert_complete(hub, tmp_path)


def test_endpoint_comes_from_the_environment(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("TIMBRE_HOME", str(tmp_path))
    root = download_checkpoint(NAME)
    assert root == tmp_path / "checkpoints" / NAME
    _assert_complete(hub, root)


def test_cut_connection_goes_on_where_it_was_cut(hub: Hub, tmp_path: Path):
    hub.cut_after_bytes[LARGE] = [100_000, 50_000]
    download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    _assert_complete(hub, tmp_path)
    starts = [asked for _, name, asked in hub.asked if name == LARGE]
    assert starts[0] is None
    assert len(starts) == 3
    assert all(start is not None and int(start[6:-1]) > 0 for start in starts[1:])


def test_second_call_goes_on_with_the_partial_file_and_asks_for_nothing_twice(
    hub: Hub, tmp_path: Path
):
    hub.cut_after_bytes[LARGE] = [60_000] + [0] * (checkpoint_download.ATTEMPTS - 1)
    with pytest.raises(DownloadError, match="what came is kept"):
        download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    partial = tmp_path / "Step-Audio-EditX" / f"{LARGE}.part"
    kept = partial.stat().st_size
    assert 0 < kept <= 60_000
    assert not partial.with_suffix("").exists()

    complete = {name for _, name, _ in hub.asked} - {LARGE}
    hub.asked.clear()
    download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    _assert_complete(hub, tmp_path)
    assert (None, f"bytes={kept}-") == (
        next((a for _, n, a in hub.asked if n in complete), None),
        next(a for _, n, a in hub.asked if n == LARGE),
    )
    assert complete.isdisjoint(name for _, name, _ in hub.asked)


def test_server_without_ranges_starts_the_file_again(hub: Hub, tmp_path: Path):
    hub.ranges = False
    hub.cut_after_bytes[LARGE] = [100_000]
    download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    _assert_complete(hub, tmp_path)


@pytest.mark.parametrize("path", [LARGE, "config.json"])
def test_damaged_content_is_refused_and_dropped(hub: Hub, tmp_path: Path, path: str):
    partial = tmp_path / "Step-Audio-EditX" / f"{path}.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"\0" * 500)  # of another revision: only the digest can tell
    with pytest.raises(DownloadError, match=f"{path} came damaged or in another version"):
        download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    assert not partial.exists()
    download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    _assert_complete(hub, tmp_path)


def test_content_that_is_not_the_published_file_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoint_download, "OFFICIAL", checkpoint_digests.OFFICIAL)
    with pytest.raises(DownloadError, match=r"linguistic_tokenizer.npy .* published file"):
        download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)


def test_missing_files_and_repositories_are_named(hub: Hub, tmp_path: Path):
    del hub.files["stepfun-ai/Step-Audio-EditX"][LARGE]
    with pytest.raises(DownloadError, match=f"lacks {LARGE}"):
        download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    del hub.files["stepfun-ai/Step-Audio-EditX"]
    with pytest.raises(DownloadError, match=r"404 \(no such repository or revision\)"):
        download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)


HOSTILE = (
    "model/../../x.safetensors",
    "model/../../../x.safetensors",
    "../model.safetensors",
    "/model.safetensors",
    "//host/model.safetensors",
    "model\\..\\..\\x.safetensors",
    "C:model.safetensors",
    "C:/model.safetensors",
    "model/./x.safetensors",
    "model//x.safetensors",
    "model/.. /x.safetensors",
    "model\0.safetensors",
    "model\n.safetensors",
    "model/",
    "",
    "model" + "x" * 300 + ".safetensors",
)


@pytest.mark.slow
@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_path_that_leaves_its_place_is_refused_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, path: str, source: str
):
    hub.files["stepfun-ai/Step-Audio-EditX"][path] = _content("x")
    root = tmp_path / "a" / "b" / "root"
    with pytest.raises(DownloadError, match="refused"):
        download_checkpoint(NAME, source=source, directory=root, endpoint=hub.url)
    assert hub.asked == []
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    "paths",
    [
        ("model-x.safetensors", "model-X.safetensors"),
        ("model-\u00e9.safetensors", "model-e\u0301.safetensors"),
        ("model-y.safetensors", "model-y.safetensors/model-z.safetensors"),
    ],
)
def test_paths_that_are_one_file_somewhere_are_refused(
    hub: Hub, tmp_path: Path, paths: tuple[str, ...]
):
    hub.files["stepfun-ai/Step-Audio-EditX"].update({path: _content(path) for path in paths})
    with pytest.raises(DownloadError, match="refused"):
        download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)
    assert hub.asked == []


def test_a_path_listed_twice_is_refused(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    listed = checkpoint_download.HuggingFace.files

    def twice(*args: object) -> Iterator[checkpoint_download.RemoteFile]:
        yield from listed(*args)
        yield from listed(*args)

    monkeypatch.setattr(checkpoint_download.HuggingFace, "files", twice)
    with pytest.raises(DownloadError, match="refused"):
        download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)


def test_a_link_that_leaves_a_repository_is_not_followed_and_a_linked_repository_is(
    hub: Hub, tmp_path: Path
):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for directory in (root, elsewhere, tmp_path / "disk"):
        directory.mkdir()
    repository = root / "Step-Audio-EditX"
    repository.symlink_to(tmp_path / "disk")
    link = repository / LARGE.partition("/")[0]
    link.symlink_to(elsewhere)
    with pytest.raises(DownloadError, match="behind a link"):
        download_checkpoint(NAME, directory=root, endpoint=hub.url)
    assert list(elsewhere.iterdir()) == []
    link.unlink()
    download_checkpoint(NAME, directory=root, endpoint=hub.url)
    assert (tmp_path / "disk" / LARGE).is_file()


@pytest.mark.parametrize(
    ("path", "size"), [(None, 1), (["x"], 1), ("x", None), ("x", "1"), ("x", -1)]
)
def test_a_list_of_another_form_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: object, size: object
):
    entry = {"type": "file", "path": path, "size": size, "oid": "0"}
    monkeypatch.setattr(
        Handler, "_json", lambda self, _: self._send(200, json.dumps([entry]).encode())
    )
    with pytest.raises(DownloadError, match="not in a form we know"):
        download_checkpoint(NAME, directory=tmp_path, endpoint=hub.url)


def test_offline_fails_at_once_and_says_what_to_do(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(DownloadError) as caught:
            download_checkpoint(NAME, directory=tmp_path, endpoint=endpoint)
    message = caught.value.message
    assert "cannot reach 127.0.0.1" in message
    assert f"`timbre checkpoint verify {tmp_path}`" in message
    assert "by hand" in message
    assert "Step-Audio-Tokenizer" in message


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="step-audio-editx-awq"):
        download_checkpoint("step-audio")
    with pytest.raises(ConfigError, match="modelscope"):
        download_checkpoint(NAME, source="ftp")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "carrier://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(DownloadError, match="the proxy in the environment cannot be used: "):
        download_checkpoint("step-audio-editx", directory=tmp_path)
