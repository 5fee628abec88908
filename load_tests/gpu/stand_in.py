"""The rehearsal's environment: a virtual environment that holds what the GPU machine holds.

    python -m load_tests.gpu.stand_in DIRECTORY     → prints the path of its Python

It holds the packages of machine.txt, what these need, and those of wheels.txt; importing anything
else fails in it as it would there. Nothing is installed anew: each package's files are linked from
the running environment, so it is made in about a second, and only once while nothing has changed.

What it cannot show: it has the running Python, not 3.12; the running versions, where they differ
(they are printed), above all torch's CPU build instead of 2.11 for CUDA 13; no triton and so no
compiled kernels; the wheels' contents come from the running environment, not from the files that
travel; and what the machine has beyond its list is missing, so an optional import may go another
way there.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
_LINE = re.compile(r"(!?)([A-Za-z0-9._-]+)(?:==(\S+))?\s*(?:#.*)?")


@dataclass(frozen=True, slots=True)
class Listed:
    """Packages of the GPU machine, and those to bring along."""

    machine: dict[str, str]
    """Versions by name, "" when unknown."""
    absent: frozenset[str]
    """Names known to be missing."""
    wheels: dict[str, str]
    """Versions by name, "" when unknown."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen distributions."""

    distributions: dict[str, metadata.Distribution]
    """Distributions of the running environment to include, by name."""
    notes: list[str]
    """Differences from the GPU machine."""


def read_lists(directory: Path = HERE) -> Listed:
    """machine.txt and wheels.txt; a line that is neither says so (ValueError)."""
    machine, absent = _read(directory / "machine.txt")
    wheels, _ = _read(directory / "wheels.txt")
    return Listed(machine, frozenset(absent), wheels)


def installed() -> dict[str, metadata.Distribution]:
    """The running environment's distributions by name, as an import would find them."""
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        found.setdefault(canonicalize_name(distribution.name), distribution)
    return found


def choose(listed: Listed, found: Mapping[str, metadata.Distribution]) -> Choice:
    """What is listed, with the needs of what the machine has; wheels come without theirs.

    LookupError: a wheel is not installed here, or in another version.
    """
    chosen: dict[str, metadata.Distribution] = {}
    notes: list[str] = []
    waiting = list(listed.machine)
    while waiting:
        name = waiting.pop()
        if name in chosen:
            continue
        if name not in found:
            notes.append(f"no {name} here")
            continue
        chosen[name] = found[name]
        wanted, version = listed.machine.get(name), found[name].version
        if wanted and version.partition("+")[0] != wanted:
            notes.append(f"{name} {version} for {wanted}")
        needs = set(_needs(found[name]))
        notes += [f"{name} without {need}" for need in sorted(needs & listed.absent)]
        waiting += sorted(needs - listed.absent)
    for name, version in listed.wheels.items():
        if name not in found or found[name].version != version:
            raise LookupError(f"{name}=={version}, which travels as a wheel, is not installed here")
        chosen[name] = found[name]
    return Choice(dict(sorted(chosen.items())), sorted(notes))


def make(directory: Path, choice: Choice, found: Mapping[str, metadata.Distribution]) -> Path:
    """The environment below `directory`, made if there is none like it → its Python."""
    target = directory / _digest(choice)
    if not target.exists():
        directory.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=directory))
        venv.EnvBuilder(symlinks=True, with_pip=False).create(draft)
        (site,) = draft.glob("lib/python*/site-packages")
        _link(site, choice, found)
        try:
            draft.rename(target)
        except OSError:  # another run was faster
            if not target.exists():
                raise
            shutil.rmtree(draft)
    return target / "bin" / "python"


def _read(path: Path) -> tuple[dict[str, str], set[str]]:
    present: dict[str, str] = {}
    absent: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise ValueError(
                f"{path.name}, line {number}: neither name==version nor a name: {line}"
            )
        name = canonicalize_name(parts[2])
        if parts[1]:
            absent.add(name)
        else:
            present[name] = parts[3] or ""
    return present, absent


def _needs(distribution: metadata.Distribution) -> Iterator[str]:
    """Names that it requires in this environment, without extras."""
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _files(distribution: metadata.Distribution) -> Iterator[Path]:
    """Its files, relative to where it is installed; scripts and compiled files are left out."""
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        path = Path(row[0])
        if path.parts[0] != ".." and "__pycache__" not in path.parts and not path.is_absolute():
            yield path


def _link(site: Path, choice: Choice, found: Mapping[str, metadata.Distribution]) -> None:
    """Whole top-level folders where only chosen distributions own them, else single files."""
    owners: dict[str, set[str]] = {}
    for name, distribution in found.items():
        for top in {path.parts[0] for path in _files(distribution)}:
            owners.setdefault(top, set()).add(name)
    for distribution in choice.distributions.values():
        base = Path(str(distribution.locate_file(""))).resolve()
        for path in _files(distribution):
            is_shared = len(owners[path.parts[0]]) > 1
            link = site / (path if is_shared else path.parts[0])
            if not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(base / link.relative_to(site))


def _digest(choice: Choice) -> str:
    """Changes with whatever the environment is made of."""
    places = [f"{n} {d.version} {d.locate_file('')}" for n, d in choice.distributions.items()]
    parts = [sys.version, os.path.realpath(sys.executable), Path(__file__).read_text(), *places]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def main() -> int:
    """Make it, say on standard error what differs, print its Python."""
    found = installed()
    choice = choose(read_lists(), found)
    python = make(Path(sys.argv[1]).resolve(), choice, found)
    print("stand-in for the GPU machine: " + "; ".join(choice.notes), file=sys.stderr)
    print(python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
