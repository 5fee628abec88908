"""Imports point one way, import has no effects, and no module outgrows its noun."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.unit
PACKAGES = ("pipeline", "deployments", "cache_store")
TREES = (*PACKAGES, "training", "load_tests")
MAX_LINES = 400
MAX_MODULES = 16
WIDE_ROOMS = {"cache_store"}  # one well-drawn room

# package prefix → prefixes that it may not import; the rules of every matching prefix count
FORBIDDEN = {
    "pipeline": {"deployments", "cache_store", "training", "load_tests", "s3fs"},
    "cache_store": {"deployments", "pipeline", "training", "load_tests", "torch"},
    "deployments": {"training", "load_tests"},
    "deployments.config": {
        "deployments.http",
        "deployments.local",
        "deployments.stages",
        "deployments.telemetry",
        "deployments.voices",
    },
    "deployments.admission": {
        "deployments.http",
        "deployments.local",
        "deployments.stages",
        "deployments.telemetry",
    },
    "deployments.quotas": {
        "deployments.http",
        "deployments.local",
        "deployments.stages",
        "deployments.telemetry",
        "deployments.voices",
    },
    "deployments.telemetry": {"deployments.http", "deployments.local", "deployments.stages"},
    "deployments.scaling": {
        "deployments.http",
        "deployments.local",
        "deployments.stages",
        "deployments.app",
    },
    "deployments.stages": {"deployments.http", "deployments.local", "deployments.app"},
    "deployments.voices": {"deployments.http", "deployments.local", "deployments.app"},
    "deployments.http": {"deployments.local", "deployments.app"},
    "deployments.local": {"deployments.http", "deployments.stages", "deployments.app"},
    "pipeline.audio": {"pipeline.stepaudio", "pipeline.text"},
    "pipeline.text": {"pipeline.stepaudio", "pipeline.audio"},
    "pipeline.marks": {"pipeline.stepaudio", "pipeline.text"},
    "pipeline.stepaudio.tokenizer": {"pipeline.stepaudio.llm", "pipeline.stepaudio.vocoder"},
    "pipeline.stepaudio.llm": {"pipeline.stepaudio.tokenizer", "pipeline.stepaudio.vocoder"},
    "pipeline.stepaudio.vocoder": {"pipeline.stepaudio.tokenizer", "pipeline.stepaudio.llm"},
    "training": {"deployments", "cache_store", "load_tests"},
}
# library → the only places of our packages that import it
ROOMS = {
    "fastapi": ("deployments.http",),
    "starlette": ("deployments.http",),
    "ray": (
        "deployments.app",
        "deployments.config.preflight",
        "deployments.config.serve_config",
        "deployments.detached",
        "deployments.http.ingress",
        "deployments.quotas.cluster",
        "deployments.scaling.peers",
        "deployments.stages",
        "deployments.telemetry",
        "cache_store.cluster",
    ),
    "torch": ("pipeline.stepaudio", "pipeline.marks", "deployments.stages"),
}


def modules(*trees: str) -> Iterator[tuple[str, Path]]:
    for tree in trees:
        for path in sorted((ROOT / tree).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


OURS = dict(modules(*PACKAGES))
ALL = dict(modules(*TREES))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module imported, at the top or within a function."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in ALL else node.module for name in inner.values()}
    return frozenset(found)


def is_in(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


@pytest.mark.parametrize("package", list(FORBIDDEN))
def test_imports_point_one_way(package: str):
    wrong = {
        (name, module)
        for name, path in ALL.items()
        if is_in(name, package)
        for module in imported(path)
        if any(is_in(module, prefix) for prefix in FORBIDDEN[package])
    }
    assert not wrong


@pytest.mark.parametrize("library", list(ROOMS))
def test_a_library_is_imported_in_its_rooms_alone(library: str):
    wrong = {
        name
        for name, path in OURS.items()
        if any(is_in(module, library) for module in imported(path))
        and not any(is_in(name, room) for room in ROOMS[library])
    }
    assert not wrong


def test_there_is_no_circle():
    graph = {
        name: {m for m in imported(path) if m in ALL and m != name} for name, path in ALL.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", sorted({name.rpartition(".")[0] for name in ALL} - {""}))
def test_the_rooms_of_a_folder_make_no_circle(package: str):
    """Its modules and folders, each folder taken as one."""

    def room(name: str) -> str:
        return name.removeprefix(f"{package}.").partition(".")[0]

    inner = {name: path for name, path in ALL.items() if is_in(name, package) and name != package}
    graph: dict[str, set[str]] = {}
    for name, path in inner.items():
        reached = {room(module) for module in imported(path) if module in inner}
        graph.setdefault(room(name), set()).update(reached - {room(name)})
    list(TopologicalSorter(graph).static_order())


def test_a_module_has_one_noun_and_says_which():
    sizes = {name: len(path.read_text("utf-8").splitlines()) for name, path in ALL.items()}
    assert not {name: size for name, size in sizes.items() if size > MAX_LINES}
    silent = [name for name, path in ALL.items() if not ast.get_docstring(parsed(path))]
    assert not silent, "modules that do not say what they own"


def test_no_folder_is_a_bag():
    rooms = Counter(path.parent for path in ALL.values() if path.name != "__init__.py")
    bags = {str(room.relative_to(ROOT)): many for room, many in rooms.items() if many > MAX_MODULES}
    assert set(bags) <= WIDE_ROOMS, bags


def test_wiring_and_router_need_no_model_library():
    """A replica loads its own libraries; building the application and routing load none.

    rfc3987_syntax is loaded by jsonschema, and so by every process of Ray, wherever it is
    installed, and takes over a second: uninstall it, or what brings it (pip check tells).
    """
    code = (
        "import sys, deployments.app, pipeline.cli\n"
        "heavy = {'torch', 'funasr', 'onnxruntime', 'transformers', 'librosa', 's3fs'}\n"
        "heavy |= {'rfc3987_syntax'}\n"
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
