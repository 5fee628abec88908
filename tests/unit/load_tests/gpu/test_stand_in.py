"""The environment of the rehearsal holds what the GPU machine holds, and the kit needs no more."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest

from load_tests.gpu.stand_in import Listed, choose, installed, make, read_lists
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
# cannot be had with torch's CPU build; where a GPU is, torch brings it
ABSENT_HERE = {"triton"}
IMPORT_ALL = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
from pipeline.stepaudio.tokenizer.funasr_parts import funasr_classes
encoder, _ = funasr_classes()  # leaves nothing of funasr among the modules
names = [*sys.modules, encoder.__module__]
print(json.dumps(sorted({name.partition(".")[0] for name in names})))
"""
FIND_ALL = """
import json, sys
from importlib.util import find_spec
print(json.dumps([name for name in json.loads(sys.argv[1]) if find_spec(name) is None]))
"""


def kit_modules() -> dict[str, Path]:
    """The model path and the kit: module → file."""
    trees = (ROOT / "pipeline/stepaudio", ROOT / "load_tests/gpu")
    paths = [path for tree in trees for path in sorted(tree.rglob("*.py"))]
    paths.append(ROOT / "pipeline/synthesis.py")
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def imported_packages(paths: Iterable[Path]) -> set[str]:
    """Top-level packages imported anywhere in the files, within functions too."""
    names: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its Python."""
    found = installed()
    return make(tmp_path_factory.mktemp("stand_in"), choose(read_lists(), found), found)


def answer(python: Path, code: str, names: Iterable[str]) -> set[str]:
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", code, json.dumps(sorted(names))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return set(json.loads(done.stdout))


@pytest.mark.slow
def test_kit_and_model_path_import_on_the_machine(stand_in: Path):
    loaded = answer(stand_in, IMPORT_ALL, kit_modules())
    assert not loaded & {"ray", "fastapi", "starlette", "pydantic", "s3fs", "av"}
    wheels = {name.replace("-", "_") for name in read_lists().wheels}
    assert wheels <= loaded, "a wheel travels that nothing imports"


@pytest.mark.slow
def test_what_is_imported_later_is_on_the_machine_too(stand_in: Path):
    missing = answer(stand_in, FIND_ALL, imported_packages(kit_modules().values()))
    assert missing <= ABSENT_HERE


@pytest.mark.slow
def test_the_stand_in_lacks_what_the_machine_lacks(stand_in: Path):
    lists = read_lists()
    gone = {name.replace("-", "_") for name in lists.absent - set(lists.wheels)}
    assert answer(stand_in, FIND_ALL, gone) == gone
    unlisted = {"boto3", "hypothesis", "jieba", "pip"}
    assert answer(stand_in, FIND_ALL, unlisted) == unlisted


def test_wheels_are_those_that_the_tests_ran_with():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert {f"{name}=={version}" for name, version in read_lists().wheels.items()} <= set(pins)


def test_a_wheel_in_another_version_is_refused():
    found = installed()
    listed = Listed(machine={}, absent=frozenset(), wheels={"blake3": "0.0.1"})
    with pytest.raises(LookupError, match=r"blake3==0\.0\.1"):
        choose(listed, found)


def test_differences_are_told():
    found = installed()
    listed = Listed(
        machine={"numpy": "1.0", "no-such-package": "", "typer": ""},
        absent=frozenset({"rich"}),
        wheels={},
    )
    choice = choose(listed, found)
    assert choice.notes == [
        "no no-such-package here",
        f"numpy {metadata.version('numpy')} for 1.0",
        "typer without rich",
    ]
    assert "rich" not in choice.distributions
    assert "shellingham" in choice.distributions  # typer's need, and not refused


def test_a_line_that_is_no_package_is_refused(tmp_path: Path):
    (tmp_path / "machine.txt").write_text("numpy 2.5\n")
    (tmp_path / "wheels.txt").write_text("")
    with pytest.raises(ValueError, match=r"machine\.txt, line 1"):
        read_lists(tmp_path)


@pytest.mark.slow
def test_it_is_made_once(tmp_path: Path):
    found = installed()
    choice = choose(Listed({"packaging": ""}, frozenset(), {}), found)
    python = make(tmp_path, choice, found)
    made_ns = python.parents[1].stat().st_mtime_ns
    assert make(tmp_path, choice, found) == python
    assert python.parents[1].stat().st_mtime_ns == made_ns
    assert len(list(tmp_path.iterdir())) == 1
    more = choose(Listed({"packaging": "", "idna": ""}, frozenset(), {}), found)
    assert make(tmp_path, more, found) != python
