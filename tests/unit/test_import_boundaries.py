"""Imports point one way, import has no effects, and no module outgrows its noun."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.unit
PACKAGES = ("pipeline", "deployments", "cache_store")
MAX_LINES = 500

# package prefix → what it may not import; the longest matching prefix counts
FORBIDDEN = {
    "pipeline": {
        "deployments",
        "cache_store",
        "training",
        "ray",
        "fastapi",
        "starlette",
        "torch",
        "s3fs",
    },
    "pipeline.stepaudio": {
        "deployments",
        "cache_store",
        "training",
        "ray",
        "fastapi",
        "starlette",
        "s3fs",
    },
    "cache_store": {"deployments", "pipeline", "training", "ray", "fastapi", "torch"},
    "cache_store.cluster": {"deployments", "pipeline", "training", "fastapi", "torch"},
    "deployments": {"training"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_point_one_way(name: str, path: Path):
    rule = max((prefix for prefix in FORBIDDEN if name.startswith(prefix)), key=len)
    wrong = {module for module in imported(path) if module.split(".")[0] in FORBIDDEN[rule]}
    assert not wrong


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_a_module_has_one_noun_and_says_which(name: str, path: Path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(source)), f"{name} does not say what it owns"


def test_wiring_and_router_need_no_model_library():
    """A replica loads its own libraries; building the application and routing load none."""
    code = (
        "import sys, deployments.app, pipeline.cli\n"
        "heavy = {'torch', 'funasr', 'onnxruntime', 'transformers', 'librosa', 's3fs'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
