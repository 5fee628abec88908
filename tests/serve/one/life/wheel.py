"""The wheel of this repository, installed away from it: what it holds runs alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.conftest import ROOT

BUILT_FROM = (
    *("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"),
    *("serve_config.yaml", "serve_config.cpu.yaml"),
    *("pipeline", "deployments", "cache_store"),
)
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def built(source: Path, version: str = "") -> Path:
    """A wheel of a copy in `source`: a `build` folder of the checkout would bring what is gone.

    version: its own, if it is to be another.
    """
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            leave_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=leave_out)
        else:
            shutil.copy(ROOT / name, source)
    if version:
        project = source / "pyproject.toml"
        text = re.sub(r'^version = ".*"', f'version = "{version}"', project.read_text(), flags=re.M)
        project.write_text(text)
    run(*PIP, "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", cwd=source)
    (wheel,) = source.glob("*.whl")
    return wheel


def installed(wheel: Path, directory: Path) -> Path:
    """The `timbre` command of an environment with the wheel, and our dependencies behind it."""
    venv.create(directory, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(directory), "platbase": str(directory)})
    ours = {str(ROOT), sysconfig.get_path("stdlib")}
    behind = [p for p in sys.path if Path(p).is_dir() and p not in ours and "packages" in p]
    (Path(paths["purelib"]) / "dependencies.pth").write_text("\n".join(behind))
    python = str(Path(paths["scripts"]) / "python")
    options = ("--no-deps", "--no-index", "--ignore-installed")
    run(*PIP, "--python", python, "install", *options, str(wheel), cwd=directory)
    return Path(paths["scripts"]) / "timbre"


def run(*command: str, cwd: Path, **variables: str) -> str:
    """Standard output. Nothing of the checkout is on the command's path.

    variables: of its environment, beside those of this process.
    """
    environment = {n: v for n, v in os.environ.items() if n not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
