"""A section that fails, hangs or dies stops no other, and its results say what became of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.unit, pytest.mark.slow]
# Sections of the test's own, run as the kit runs its own; in a process apart, since they are
# forked, which a test runner with threads should not be.
DRIVE = """
import json, os, sys, time, types
from pathlib import Path
from load_tests.gpu import kit
from load_tests.bench.report import Row

def good(section):
    section.part("a part", lambda: [Row("one", 1.0, "x")])

def half(section):
    section.part("broken", lambda: [Row("none", 1 / 0, "x")])
    section.part("whole", lambda: [Row("one", 1.0, "x")])

def hangs(section):
    good(section)
    time.sleep(60)

def dies(section):
    good(section)
    os._exit(7)

def late(section):
    good(section)
    time.sleep(2)

for measure in (good, half, hangs, dies, late):
    module = types.ModuleType(measure.__name__)
    module.measure = measure
    sys.modules[f"load_tests.gpu.sections.{measure.__name__}"] = module
kit._limit_s = lambda name, plan: 1 if name == "hangs" else 60
kit._GRACE_S = 4
out, codes = Path(sys.argv[1]), []
for directory, budget_s, names in json.loads(sys.argv[2]):
    plan = kit.Plan(out / directory, True, budget_s, commit="abc", planted="planted")
    codes.append(kit.run_sections(names, plan))
(out / "codes").write_text(json.dumps(codes))
"""
RUNS = (
    ("all", 60, ["half", "planted", "hangs", "dies", "absent", "good"]),
    ("budget", 1, ["late", "good"]),
    ("fine", 60, ["good"]),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs left their results; `codes` has what each returned."""
    directory = tmp_path_factory.mktemp("kit")
    (directory / "budget").mkdir()
    earlier = '{"rows": ["of an earlier run"], "failures": []}'
    (directory / "budget" / "gpu_good.json").write_text(earlier)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVE, str(directory), json.dumps(RUNS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return directory


def results(out: Path) -> dict[str, Any]:
    paths = sorted(out.glob("gpu_*.json"))
    return {path.stem.removeprefix("gpu_"): json.loads(path.read_text()) for path in paths}


def rows(section: dict[str, Any]) -> list[str]:
    return [row["what"] for row in section["rows"]]


def traces(section: dict[str, Any]) -> list[str]:
    return [failure["traceback"] for failure in section["failures"]]


def test_no_section_stops_another(out: Path):
    found = results(out / "all")
    assert list(found) == ["absent", "dies", "good", "half", "hangs", "planted"]
    assert all(rows(found[name]) == ["one"] for name in ("half", "hangs", "dies", "good"))
    assert not found["good"]["failures"]
    assert found["good"]["commit"] == "abc"
    assert [failure["part"] for failure in found["half"]["failures"]] == ["broken"]
    assert "ZeroDivisionError" in traces(found["half"])[0]
    assert "RuntimeError: planted" in traces(found["planted"])[0]
    assert traces(found["hangs"]) == ["killed: it ran past its time"]
    assert traces(found["dies"]) == ["died with 7"]
    assert "No module named 'load_tests.gpu.sections.absent'" in traces(found["absent"])[0]


def test_what_the_budget_does_not_reach_says_so(out: Path):
    found = results(out / "budget")
    assert rows(found["late"]) == ["one"]
    assert found["good"]["rows"] == []
    assert traces(found["good"]) == ["no time left"]


def test_a_failure_is_told_by_the_exit_code(out: Path):
    assert json.loads((out / "codes").read_text()) == [1, 1, 0]
