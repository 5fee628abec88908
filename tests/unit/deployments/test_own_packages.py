"""Somebody else's package with the name of one of ours is named, not stumbled over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local.service import LocalService
from deployments.own_packages import ROOT, stranger_on
from pipeline.errors import SetupError

pytestmark = pytest.mark.unit


def foreign(directory: Path, name: str, is_module: bool = False) -> Path:
    path = directory / f"{name}.py" if is_module else directory / name / "__init__.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("VERSION = 1\n")
    return path


@pytest.mark.parametrize("is_module", [False, True])
@pytest.mark.parametrize("name", ["deployments", "pipeline", "cache_store"])
def test_the_file_found_is_named(tmp_path: Path, name: str, is_module: bool):
    path = foreign(tmp_path, name, is_module)
    said = stranger_on([str(tmp_path), str(ROOT)])
    assert said is not None
    assert str(path) in said
    assert repr(name) in said
    assert "\n" not in said
    assert stranger_on([str(ROOT), str(tmp_path)]) is None, "ours comes first"


def test_own_packages_folders_and_other_names_are_no_strangers(tmp_path: Path):
    (tmp_path / "pipeline").mkdir()  # a bare folder hides no package
    foreign(tmp_path, "pipelines")
    assert stranger_on([str(tmp_path)]) is None
    assert stranger_on() is None


@pytest.mark.parametrize("name", ["pipeline", "cache_store"])
@pytest.mark.parametrize("module", ["deployments.app", "deployments.cli"])
def test_an_import_ends_with_the_sentence(tmp_path: Path, name: str, module: str):
    """What `serve run` and `timbre` load, beside the package of another program."""
    path = foreign(tmp_path, name)
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: timbre needs its own package")
    assert str(path) in last


def test_a_service_is_not_started_beside_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`serve run` puts the working directory in front, where `timbre` itself does not."""
    path = foreign(tmp_path, "deployments")
    monkeypatch.chdir(tmp_path)
    local = LocalService(tmp_path / "state")
    with pytest.raises(SetupError, match="needs its own package 'deployments'") as caught:
        local.start(ROOT / "serve_config.cpu.yaml", {}, print, print)
    assert str(path) in caught.value.message
    assert not (tmp_path / "state").exists()
