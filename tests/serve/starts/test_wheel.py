"""The wheel away from its repository: what it holds, and a service in an empty directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.serve.service_client import TIMEOUT_S, cloned, decoded, listed_clip

pytestmark = pytest.mark.serve
BUILT_FROM = (
    *("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"),
    *("serve_config.yaml", "serve_config.cpu.yaml"),
    *("pipeline", "deployments", "cache_store"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a `build` folder of the checkout would bring what is long deleted."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            leave_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=leave_out)
        else:
            shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", cwd=source)
    (built,) = source.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `timbre` command of an environment with the wheel, and our dependencies behind it."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(directory), "platbase": str(directory)})
    ours = {str(ROOT), sysconfig.get_path("stdlib")}
    behind = [p for p in sys.path if Path(p).is_dir() and p not in ours and "packages" in p]
    (Path(paths["purelib"]) / "dependencies.pth").write_text("\n".join(behind))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    python = str(Path(paths["scripts"]) / "python")
    options = ("--no-deps", "--no-index", "--ignore-installed")
    run(*pip, "--python", python, "install", *options, str(wheel), cwd=directory)
    return Path(paths["scripts"]) / "timbre"


@pytest.fixture
def empty(tmp_path: Path, installed: Path) -> Iterator[Path]:
    """A directory without anything; whatever runs from it is taken down."""
    directory = tmp_path / "empty"
    directory.mkdir()
    yield directory
    run(str(installed), "down", cwd=directory)


def run(*command: str, cwd: Path) -> str:
    """Standard output. Nothing of the checkout is on the command's path."""
    environment = {n: v for n, v in os.environ.items() if n not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_what_a_service_reads(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in ("serve_config.yaml", "serve_config.cpu.yaml"):
            assert archive.read(f"deployments/config/{name}") == (ROOT / name).read_bytes()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {
        "pipeline",
        "deployments",
        "cache_store",
    }
    notices = {n.rpartition("/")[2] for n in names if ".dist-info/licenses/" in n}
    assert notices == {"LICENSE", "NOTICE"}
    for tree in ("pipeline/voices", "pipeline/checkpoints"):
        files = {str(p.relative_to(ROOT)) for p in (ROOT / tree).rglob("*") if p.is_file()}
        assert files <= names


def test_up_a_clone_over_http_and_down_in_an_empty_directory(installed: Path, empty: Path):
    timbre = str(installed)
    assert run(timbre, "lint", "serve_config.yaml", cwd=empty).endswith("is good\n")
    assert re.fullmatch(r"(timbre )?\d+\.\d+\.\d+\s*", run(timbre, "--version", cwd=empty))
    said = run(timbre, "up", cwd=empty)
    url = re.search(r"ready at (http://\S+),", said)
    assert url is not None, said
    clip, transcript = listed_clip("bruno")
    asked = cloned(clip, transcript, response_format="wav")
    with httpx.Client(base_url=url[1], timeout=TIMEOUT_S) as http:
        reply = http.post("/v1/audio/speech", json=asked)
        assert reply.status_code == httpx.codes.OK, reply.text[:300]
        samples, rate_hz = decoded(reply.content)
        assert rate_hz == 24_000
        assert len(samples) > 0.1 * rate_hz
        assert http.get("/readyz").status_code == httpx.codes.OK
    running = (empty / "out" / "serve_config.running.yaml").read_text()
    assert str(installed.parents[1]) in running, "the checkout's config, not the wheel's"
    assert run(timbre, "down", cwd=empty) == "stopped\n"
    with pytest.raises(httpx.TransportError):
        httpx.get(url[1] + "/healthz", timeout=5.0)
