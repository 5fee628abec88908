"""Imports point one way, import has no effects, and no module outgrows its noun."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
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
    "deployments.telemetry": {"deployments.http", "deployments.local", "deployments.stages"},
    "deployments.stages": {"deployments.http", "deployments.local", "deployments.app"},
    "deployments.voices": {"deployments.http", "deployments.local", "deployments.app"},
    "deployments.http": {"deployments.local", "deployments.app"},
    "deployments.local": {"deployments.http", "deployments.stages", "deployments.app"},
    "pipeline.audio": {"pipeline.stepaudio", "pipeline.text"},
    "pipeline.text": {"pipeline.stepaudio", "pipeline.audio"},
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
        "deployments.http.ingress",
        "deployments.stages",
        "deployments.telemetry",
        "cache_store.cluster",
    ),
    "torch": ("pipeline.stepaudio", "deployments.stages"),
}


def modules(*trees: str) -> Iterator[tuple[str, Path]]:
    for tree in trees:
        for path in sorted((ROOT / tree).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


OURS = dict(modules(*PACKAGES))
ALL = dict(modules(*TREES))


def imported(path: Path) -> Iterator[str]:
    """Every module imported, at the top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in ALL else node.module


def is_in(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


@pytest.mark.parametrize("name", list(ALL))
def test_imports_point_one_way(name: str):
    rules = [FORBIDDEN[prefix] for prefix in FORBIDDEN if is_in(name, prefix)]
    wrong = {
        module
        for module in imported(ALL[name])
        for rule in rules
        if any(is_in(module, prefix) for prefix in rule)
    }
    assert not wrong


@pytest.mark.parametrize("name", list(OURS))
def test_a_library_is_imported_in_its_rooms_alone(name: str):
    tops = {module.split(".")[0] for module in imported(OURS[name])}
    wrong = {
        library
        for library, rooms in ROOMS.items()
        if library in tops and not any(is_in(name, room) for room in rooms)
    }
    assert not wrong


def test_there_is_no_circle():
    graph = {
        name: {m for m in imported(path) if m in ALL and m != name} for name, path in ALL.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize(("name", "path"), list(ALL.items()), ids=list(ALL))
def test_a_module_has_one_noun_and_says_which(name: str, path: Path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(source)), f"{name} does not say what it owns"


def test_no_folder_is_a_bag():
    rooms = Counter(path.parent for path in ALL.values() if path.name != "__init__.py")
    bags = {str(room.relative_to(ROOT)): many for room, many in rooms.items() if many > MAX_MODULES}
    assert set(bags) <= WIDE_ROOMS, bags


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
