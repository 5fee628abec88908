"""The whole kit at small sizes, by its one command, with no more than the GPU machine has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from load_tests.gpu.kit import SECTIONS
from tests.conftest import ROOT

pytestmark = pytest.mark.rehearsal
LIMIT_S = 300


def rehearse(out: Path, *words: str) -> tuple[int, str]:
    """→ exit code and all that it printed."""
    done = subprocess.run(
        [str(ROOT / "load_tests/gpu/run"), "--rehearse", "--out", str(out), *words],
        env={**os.environ, "PYTHON": sys.executable},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def results(out: Path, names: Iterable[str]) -> dict[str, Any]:
    return {name: json.loads((out / f"gpu_{name}.json").read_text()) for name in names}


@pytest.mark.timeout(2 * LIMIT_S)
def test_every_section_gives_its_results(tmp_path: Path):
    started_s = time.monotonic()
    code, printed = rehearse(tmp_path)
    took_s = time.monotonic() - started_s
    found = results(tmp_path, SECTIONS)
    traces = [failure["traceback"] for section in found.values() for failure in section["failures"]]
    assert not traces, "\n".join(traces)
    assert code == 0, printed[-4000:]
    assert all(section["rows"] for section in found.values())
    assert all(section["rehearsal"] for section in found.values())
    assert not any(section["left_out"] for section in found.values())
    assert took_s < LIMIT_S


def test_a_planted_failure_leaves_the_others(tmp_path: Path):
    code, printed = rehearse(tmp_path, "--sections", "llm,device", "--plant", "llm")
    found = results(tmp_path, ("llm", "device"))
    assert code == 1, printed[-4000:]
    assert "RuntimeError: planted" in found["llm"]["failures"][0]["traceback"]
    assert found["device"]["rows"]
    assert not found["device"]["failures"]
    assert "llm: 1 failed; device: ok" in printed
