# pyright: basic
"""Runs the sections one after another, each in a process of its own.

They are forked from one process that has imported the heavy libraries and never touched the GPU, so
a section starts in a moment, and one that crashes, hangs or breaks its device ends alone.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from load_tests.gpu.sections.section import Section
from load_tests.gpu.sizes import FULL, REHEARSAL

# name → (module of this folder, seconds at most); by worth
_LIMITS_S = {
    "device": 25,
    "kernels": 60,
    "llm": 150,
    "vocoder": 110,
    "chain": 110,
    "beside": 70,
    "tokenizer": 60,
    "parity": 40,
}
SECTIONS = tuple(_LIMITS_S)
_GRACE_S = 10  # a section is killed this long after its time
_REHEARSAL_S = 90  # of any section


@dataclass(frozen=True)
class Plan:
    """What the command line asked for."""

    out: Path
    is_rehearsal: bool
    budget_s: float
    commit: str = ""
    golden: Path | None = None
    train: str | None = None
    train_minutes: float = 1.0
    planted: str | None = None
    limits_s: Mapping[str, float] = field(default_factory=dict)


def run_sections(names: Sequence[str], plan: Plan) -> int:
    """→ 0 when every section ended without a failure, else 1."""
    plan.out.mkdir(parents=True, exist_ok=True)
    ends_s = time.monotonic() + plan.budget_s
    outcomes = {}
    _import_all(names)
    for name in names:
        limit_s = min(_limit_s(name, plan), ends_s - time.monotonic())
        if limit_s <= 0:
            (plan.out / f"gpu_{name}.json").unlink(missing_ok=True)
            outcomes[name] = _ended(plan.out / f"gpu_{name}.json", name, "no time left")
            continue
        started_s = time.monotonic()
        print(f"{name} (at most {limit_s:.0f} s)", flush=True)
        outcomes[name] = _run_apart(name, plan, limit_s)
        print(f"{name}: {outcomes[name]}, {time.monotonic() - started_s:.0f} s", flush=True)
    print("; ".join(f"{name}: {outcome}" for name, outcome in outcomes.items()))
    return int(any(outcome != "ok" for outcome in outcomes.values()))


def _import_all(names: Sequence[str]) -> None:
    """Once for all sections. One that cannot be imported says so itself, in its own results."""
    for module in ("torch._inductor", *(f"load_tests.gpu.sections.{name}" for name in names)):
        with suppress(Exception):  # the profiler imports the first, for some seconds
            importlib.import_module(module)
    assert not torch.cuda.is_initialized(), "a process that has used the GPU cannot be forked"


def _limit_s(name: str, plan: Plan) -> float:
    if name in plan.limits_s:
        return plan.limits_s[name]
    if name == "train":
        return 60 * plan.train_minutes + 30
    return _REHEARSAL_S if plan.is_rehearsal else _LIMITS_S[name]


def _run_apart(name: str, plan: Plan, limit_s: float) -> str:
    """One section in a process of its own → how it ended."""
    path = plan.out / f"gpu_{name}.json"
    path.unlink(missing_ok=True)
    deadline_s = time.monotonic() + limit_s
    process = multiprocessing.get_context("fork").Process(
        target=_run_here, args=(name, plan, path, deadline_s), name=name
    )
    process.start()
    process.join(limit_s + _GRACE_S)
    if process.is_alive():
        process.kill()
        process.join()
        return _ended(path, name, "killed: it ran past its time")
    if process.exitcode:
        return _ended(path, name, f"died with {process.exitcode}")
    failures = json.loads(path.read_text())["failures"]
    return f"{len(failures)} failed" if failures else "ok"


def _ended(path: Path, name: str, how: str) -> str:
    """Note in the section's results that it did not end by itself."""
    document = json.loads(path.read_text()) if path.exists() else {"section": name, "rows": []}
    document.setdefault("failures", []).append({"part": "the section", "traceback": how})
    path.write_text(json.dumps(document, indent=1) + "\n")
    return how


def _run_here(name: str, plan: Plan, path: Path, deadline_s: float) -> None:
    section = Section(
        name=name,
        device="cpu" if plan.is_rehearsal else "cuda",
        sizes=REHEARSAL if plan.is_rehearsal else FULL,
        path=path,
        deadline_s=deadline_s,
        commit=plan.commit,
        golden=plan.golden,
    )
    section.write()
    try:
        _measure(section, plan)
    except Exception as error:  # noqa: BLE001 - kept as the section's result
        section.fail("the section", error)


def _measure(section: Section, plan: Plan) -> None:
    if plan.planted == section.name:
        raise RuntimeError("planted, to see that the other sections still run")
    module = importlib.import_module(f"load_tests.gpu.sections.{section.name}")
    if section.name == "train":
        module.measure_training(section, plan.train, plan.train_minutes)
    else:
        module.measure(section)
