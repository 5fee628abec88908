"""Takes out each guard in a copy of the tree and demands that its tests notice.

`python -m tests.mutations.run [WORD …]`: all guards, or those whose name holds one of the words.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.mutations.guard import Guard
from tests.mutations.table import GUARDS

ROOT = Path(__file__).resolve().parents[2]
TESTS = "tests/unit"
_LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "out", "__pycache__", ".*_cache", ".hypothesis")
_FAILED = 1  # pytest's exit code; 2 and above: it could not even look
_TOO_LONG_S, _ALL_S = 600, 1_800


def main(*words: str) -> int:
    """How many guards no test misses, or whose tests fail anyway."""
    chosen = [guard for guard in GUARDS if not words or any(word in guard.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutations-") as place:
        tree = Path(place) / "tree"
        shutil.copytree(ROOT, tree, ignore=_LEFT_OUT, symlinks=True)
        _, failing = _run(tree, {test for guard in chosen for test in guard.tests}, _ALL_S)
        shaky = [guard.name for guard in chosen if _fails(guard, failing)]
        for name in shaky:
            _say(f"{name}: its tests fail with the guard in place")
        sound = [guard for guard in chosen if guard.name not in shaky]
        missed = shaky + [guard.name for guard in sound if not _is_noticed(tree, guard)]
    _say(f"{len(chosen)} guards taken out, {len(missed)} not noticed{':' if missed else ''}")
    _say("\n".join(missed))
    return len(missed)


def _is_noticed(tree: Path, guard: Guard) -> bool:
    file = tree / guard.file
    whole = file.read_text(encoding="utf-8")
    began_s = time.monotonic()
    try:
        file.write_text(whole.replace(guard.old, guard.new), encoding="utf-8")
        code, failed = _run(tree, guard.tests, _TOO_LONG_S)
    finally:
        file.write_text(whole, encoding="utf-8")
    silent = [test for test in guard.tests if not any(_names(test, line) for line in failed)]
    is_noticed = code == _FAILED and not silent
    why = "noticed" if is_noticed else f"NOT NOTICED (pytest says {code}) by {', '.join(silent)}"
    _say(f"{time.monotonic() - began_s:5.1f} s  {guard.name}: {why}")
    return is_noticed


def _fails(guard: Guard, nodes: Sequence[str]) -> bool:
    return any(_names(test, node) for test in guard.tests for node in nodes)


def _names(test: str, node: str) -> bool:
    return node.partition("[")[0] == f"{TESTS}/{test}"


def _run(tree: Path, tests: Iterable[str], most_s: float) -> tuple[int, Sequence[str]]:
    """pytest's exit code, and the nodes that failed."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "--no-header", "--timeout=60"),
        *("-p", "no:cacheprovider", *(f"{TESTS}/{test}" for test in sorted(tests))),
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # a mutant's bytecode must not outlive it
        "TIMBRE_SHARED": os.environ.get("TIMBRE_SHARED", str(ROOT.parent / "shared")),
    }
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=most_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, []
    lines = done.stdout.splitlines()
    failed = [line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return done.returncode, failed


def _say(line: str) -> None:
    if line:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
