"""What is read runs no code: no pickles, no remote code, no loaders that make objects."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import pickle
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import cache_store
from pipeline.errors import CheckpointError
from pipeline.stepaudio.layout import PACKAGED_TINY
from pipeline.stepaudio.tagged_yaml import read_tagged_yaml
from pipeline.stepaudio.weights import read_torch
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
MANIFEST_SHA256 = "eebeb8961087fccfddf5e7007d4dbb2d21ef4aebb818150f4bbc324bb05973ba"
TREES = ("pipeline", "deployments", "cache_store", "training", "load_tests")

# What makes objects, or runs code, of what it reads; whole names, or what a name ends with.
FORBIDDEN = frozenset(
    {
        *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"),
        *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads"),
        *("cloudpickle.load", "cloudpickle.loads", "dill.load", "dill.loads", "joblib.load"),
        *("shelve.open", "jsonpickle.decode", "pandas.read_pickle", "np.fromregex"),
        *("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"),
        *("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
        *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
        *("tempfile.mktemp", "pty.spawn"),
    }
)
# call → the keyword that makes it safe, and its value
NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
REFUSED_KEYWORDS = {"trust_remote_code": False, "shell": False, "allow_pickle": False}
SAFE_YAML = ("_TaggedLoader",)  # a SafeLoader, see below


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in [ROOT / "setup.py", *(p for tree in TREES for p in (ROOT / tree).rglob("*.py"))]:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def _faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    names = _imported(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _name(node.func)
        head, _, rest = called.partition(".")
        called = f"{names[head]}.{rest}".rstrip(".") if head in names else called
        given = {one.arg: one.value for one in node.keywords if one.arg}
        if called in FORBIDDEN:
            yield node.lineno, called
        if called in NEEDED:
            keyword, value = NEEDED[called]
            if not _is(given.get(keyword), value):
                yield node.lineno, f"{called} without {keyword}={value}"
        if called == "yaml.load" and _name(given.get("Loader")) not in SAFE_YAML:
            yield node.lineno, "yaml.load with a loader that is not known to be safe"
        for keyword, value in REFUSED_KEYWORDS.items():
            if keyword in given and not _is(given[keyword], value):
                yield node.lineno, f"{called}({keyword}=…)"


def _imported(tree: ast.Module) -> dict[str, str]:
    """Names here → what they are called at home."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                if one.asname:
                    found[one.asname] = "np" if one.name == "numpy" else one.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def _name(node: ast.expr | None) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_unpickles_or_runs_what_it_reads():
    found = [f"{path}:{line}: {what}" for path, tree in _modules() for line, what in _faults(tree)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.loads(b'')",
        "from pickle import loads as read\nread(b'')",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=False)",
        "import numpy as np\nnp.load('x')",
        "from numpy import load\nload('x', allow_pickle=True)",
        "import yaml\nyaml.load('x', Loader=yaml.Loader)",
        "import yaml\nyaml.load('x', yaml.UnsafeLoader)",
        "eval('1')",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=is_trusted)",
        "import os\nos.system('x')",
    ],
)
def test_each_of_those_would_be_seen(code: str):
    assert list(_faults(ast.parse(code)))


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.getcwd []\n",
        "a: !!python/name:os.system ''\n",
        "!!python/object/new:os.system [true]\n",
    ],
)
def test_tags_of_a_checkpoints_yaml_make_nothing(tmp_path: Path, text: str):
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="not valid YAML"):
        read_tagged_yaml(file)


class _Runs:
    """Would write a file where it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._witness,)


@pytest.mark.parametrize("how", ["zip", "pickle"])
def test_a_file_of_tensors_runs_nothing(tmp_path: Path, how: str):
    witness, file = tmp_path / "witness", tmp_path / "model.pt"
    state = {"weight": torch.zeros(2), "evil": _Runs(witness)}
    if how == "zip":
        torch.save(state, file)
    else:
        file.write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(CheckpointError, match="not a file of tensors"):
        read_torch(file)
    assert not witness.exists()


def test_records_know_no_pickle():
    """Neither the package of the cache nor what is kept of failures and voices imports it."""
    named = [f"cache_store.{one.name}" for one in pkgutil.iter_modules(cache_store.__path__)]
    for name in (*named, "deployments.voices.failures", "deployments.voices.shelf"):
        source = importlib.util.find_spec(name)
        assert source is not None
        assert source.origin is not None
        text = Path(source.origin).read_text(encoding="utf-8")
        assert not re.search(r"^\s*(?:import|from)\s+\w*pickle", text, re.MULTILINE), name


def test_the_embedded_checkpoint_is_the_one_that_was_published():
    """Its manifest is pinned here, and all its files there."""
    manifest = PACKAGED_TINY / "timbre.json"
    assert _sha256(manifest) == MANIFEST_SHA256
    listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    there = {
        path.relative_to(PACKAGED_TINY).as_posix(): _sha256(path)
        for path in PACKAGED_TINY.rglob("*")
        if path.is_file() and path.name not in {"timbre.json", "README.md"}
    }
    assert there == {name: file["sha256"] for name, file in listed.items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
