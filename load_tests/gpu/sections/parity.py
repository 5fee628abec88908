# pyright: basic
"""Every golden file, compared on the device without TF32; on a GPU with TF32 beside it, for study.

A check beyond its tolerance is a failure of its part, and its row is there.
"""

from __future__ import annotations

from pathlib import Path

import torch

from load_tests.bench.report import Row
from load_tests.gpu.sections.section import Section
from pipeline.stepaudio.parity.golden import Check
from pipeline.stepaudio.parity.run import compare_file, golden_files

ROOT = Path(__file__).parents[3]
PLACES = (ROOT / "shared/golden", ROOT.parent / "shared/golden", ROOT / "tests/golden")
WITH_TF32 = ("vocoder", "lm")  # what the service lets use it


def measure(section: Section) -> None:
    """Fill the section."""
    directory = section.golden or next((place for place in PLACES if place.is_dir()), None)
    files = golden_files(directory) if directory and directory.is_dir() else []
    if not files:
        section.facts["note"] = f"no golden files in {directory or 'any of the usual places'}"
        section.left_out.append("every comparison: no golden files")
        section.write()
    usual_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the golden files were made
    try:
        _compare_all(section, files)
    finally:
        torch.set_num_threads(usual_threads)


def _compare_all(section: Section, files: list[tuple[Path, str]]) -> None:
    for path, kind in files:
        section.part(path.name, lambda path=path, kind=kind: _compare(section, path, kind), 6)
    for path, kind in files if section.is_cuda else []:
        if kind in WITH_TF32:
            work = lambda path=path, kind=kind: _with_tf32(section, path, kind)  # noqa: E731
            section.part(f"{path.name} with TF32", work, 6)


def _compare(section: Section, path: Path, kind: str) -> None:
    """Raises AssertionError naming the checks that are beyond their tolerance."""
    checks = compare_file(path, kind, section.device)
    section.add(*(Row(_name(path, c), c.error, "error", c.tolerance) for c in checks))
    missed = [f"{c.name} {c.error:g} > {c.tolerance:g}" for c in checks if not c.ok]
    if missed:
        raise AssertionError(f"{path.name} on {section.device}: {', '.join(missed)}")


def _with_tf32(section: Section, path: Path, kind: str) -> list[Row]:
    checks = compare_file(path, kind, section.device, allow_tf32=True)
    return [Row(f"{_name(path, check)}, with TF32", check.error, "error") for check in checks]


def _name(path: Path, check: Check) -> str:
    return f"{path.name}: {check.name}"
