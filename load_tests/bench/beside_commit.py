"""Measures this tree beside an older commit of it, in one run.

    python -m load_tests.bench.beside_commit --commit HASH [--only first_audio,vocoder_whole]
        [--pairs 5] [--cores 0] [--json FILE]

The old commit is checked out beside this one for the time of the run. Each measurement is a process
of its own, old and new in turn, so that other load on the machine hits both alike; the ratio is the
median over pairs. A measurement that one of the trees cannot do is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load_tests.bench.beside_measures import MEASURES
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("beside_measures.py")
TIMEOUT_S = 900
TWO_CORES = ("four_at_once",)  # what needs a second one; the others are measured on one


class NotMeasuredError(Exception):
    """A tree cannot do a measurement; says why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a child printed. value: by the clock; cpu: of the process, which load touches less."""

    value: float
    cpu: float
    unit: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One measurement of both trees, one right after the other."""

    old: Measured
    new: Measured

    @property
    def ratio(self) -> float:
        """How many times less the new tree takes, by the clock."""
        return self.old.value / self.new.value

    @property
    def cpu_ratio(self) -> float:
        """The same of CPU seconds."""
        return self.old.cpu / self.new.cpu


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The tree of `commit`, gone at the end. Raises SystemExit when git does not know it."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "tree"
        done = _git("worktree", "add", "--detach", str(tree), commit)
        if done.returncode:
            raise SystemExit(f"cannot check out {commit}: {done.stderr.strip()}")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def measured(tree: Path, name: str, cores: Sequence[int]) -> Measured:
    """`name` measured in a process that has `tree`'s modules.

    Raises NotMeasuredError with the last line of what went wrong.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(CHILD), name],
            capture_output=True,
            text=True,
            check=False,
            cwd=tree,
            env=environment,
            timeout=TIMEOUT_S,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    except subprocess.TimeoutExpired as error:
        raise NotMeasuredError(f"took more than {TIMEOUT_S} s") from error
    if done.returncode:
        raise NotMeasuredError((done.stderr.strip().splitlines() or ["no word"])[-1])
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def pairs(old: Path, new: Path, name: str, cores: Sequence[int], n: int) -> list[Pair]:
    """`n` pairs; every other one begins with the new tree."""
    found: list[Pair] = []
    for i in range(n):
        if i % 2:
            after, before = measured(new, name, cores), measured(old, name, cores)
        else:
            before, after = measured(old, name, cores), measured(new, name, cores)
        found.append(Pair(before, after))
    return found


def rows_of(name: str, found: Sequence[Pair]) -> list[Row]:
    """Medians of both trees, and of the pairs' ratios with their range."""
    rows: list[Row] = []
    for kind, field, ratio in (("", "value", "ratio"), (", CPU", "cpu", "cpu_ratio")):
        for side in ("old", "new"):
            values = [getattr(getattr(pair, side), field) for pair in found]
            rows.append(Row(f"{name}{kind}: {side}", statistics.median(values), found[0].new.unit))
        ratios = sorted(getattr(pair, ratio) for pair in found)
        what = f"{name}{kind}: old / new, {ratios[0]:.2f} to {ratios[-1]:.2f}"
        rows.append(Row(what, statistics.median(ratios), "x"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", required=True, help="the old one")
    parser.add_argument("--only", default=",".join(MEASURES), help=", ".join(MEASURES))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cores", default="0", help="the one to measure on, and others for more")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    cores = [int(core) for core in options.cores.split(",")]
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    with checked_out(options.commit) as old:
        for name in options.only.split(","):
            own = cores if name in TWO_CORES else cores[:1]
            try:
                rows += rows_of(name, pairs(old, ROOT, name, own, options.pairs))
            except NotMeasuredError as error:
                left_out[name] = str(error)
            print(f"{name}: {left_out.get(name, 'measured')}", file=sys.stderr)
    about = {**provenance("cpu"), "old_commit": options.commit, "left_out": left_out}
    return publish(rows, about, options.json)


if __name__ == "__main__":
    sys.exit(main())
