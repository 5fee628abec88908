"""What processes take, and whether they keep growing."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from deployments.telemetry import processes
from deployments.telemetry.processes import (
    ProcessGauges,
    ProcessUse,
    growth,
    itself,
    own_use,
    service_processes,
    use_of,
)
from tests.unit.deployments.telemetry.conftest import Seen
from tests.waiting import GIVE_UP_S

pytestmark = pytest.mark.unit

MIB = 2**20


def test_private_memory_and_shared_pages_are_told_apart() -> None:
    before = own_use("test")
    with mmap.mmap(-1, 24 * MIB) as shared:  # anonymous and shared, as the object store is
        shared.write(b"x" * 24 * MIB)
        after = own_use("test")
    assert after.store_bytes - before.store_bytes > 20 * MIB
    assert abs(after.private_bytes - before.private_bytes) < 45 * MIB
    assert after.rss_bytes > after.private_bytes > 10 * MIB
    assert after.threads >= 1
    assert after.name == "test"


def test_open_files_are_counted() -> None:
    before = own_use().files
    handles = [os.open(os.devnull, os.O_RDONLY) for _ in range(7)]
    try:
        assert own_use().files - before == 7
    finally:
        for handle in handles:
            os.close(handle)


def test_a_process_that_is_gone_takes_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert use_of(gone.pid) is None
    assert service_processes(gone.pid) == []


def test_the_processes_of_a_service_are_all_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "gpu_bytes_by_pid", lambda: {os.getpid(): 5 * MIB})
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            uses = {use.pid: use for use in service_processes(os.getpid())}
        finally:
            child.kill()
    assert uses[child.pid].name == "sleep"
    assert uses[os.getpid()].gpu_bytes == 5 * MIB


def test_a_worker_keeps_its_name_whatever_it_is_at() -> None:
    title = "ray::ServeReplica:timbre:LLM.handle_request_streaming"
    with subprocess.Popen([title, "60"], executable=shutil.which("sleep")) as worker:
        try:
            use = use_of(worker.pid)
            ends_s = time.monotonic() + GIVE_UP_S  # its title is there a moment after it has begun
            while (use is None or use.name == "sleep") and time.monotonic() < ends_s:
                time.sleep(0.01)
                use = use_of(worker.pid)
        finally:
            worker.kill()
    assert use is not None
    assert use.name == "ray::ServeReplica:timbre:LLM"
    assert use.label == f"ray::ServeReplica:timbre:LLM ({worker.pid})"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("12, 700\n12, 30\n9, 1\n", {12: 730 * MIB, 9: MIB}),
        ("", {}),
        ("12, [N/A]\nNo devices were found\n", {}),
    ],
)
def test_the_driver_says_what_is_held_of_gpus(
    said: str, found: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes.shutil, "which", lambda name: f"/usr/bin/{name}")
    told = SimpleNamespace(stdout=said)
    monkeypatch.setattr(processes.subprocess, "run", lambda *_, **__: told)
    assert processes.gpu_bytes_by_pid() == found


def test_without_a_driver_no_gpu_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.shutil, "which", lambda _: None)
    assert processes.gpu_bytes_by_pid() == {}


def test_what_torch_holds_counts_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_initialized=lambda: True, memory_reserved=lambda: 9 * MIB)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert own_use().gpu_bytes == 9 * MIB
    cuda.is_initialized = lambda: False
    assert own_use().gpu_bytes == 0


USE = ProcessUse(7, "ray::LLM", 100 * MIB, 0, 0, 0, 10, 10)


def taken(*mib: float, name: str = "ray::LLM", pid: int = 7) -> list[ProcessUse]:
    return [replace(USE, private_bytes=int(one * MIB), name=name, pid=pid) for one in mib]


def test_growth_is_the_last_quarter_beside_the_first() -> None:
    flat = taken(100, 101, 300, 100, 99, 101, 100, 100)
    leak = taken(*range(100, 180, 10), name="ray::Router", pid=8)
    samples = [list(pair) for pair in zip(flat, leak, strict=True)]
    grown = growth(samples)
    assert grown["ray::LLM (7)"] == pytest.approx(-0.005, abs=0.001)
    assert grown["ray::Router (8)"] == pytest.approx(165 / 105 - 1, abs=0.001)


def test_who_came_or_went_is_left_out() -> None:
    samples = [taken(100), [*taken(100), *taken(50, pid=9)], taken(110)]
    assert list(growth(samples)) == ["ray::LLM (7)"]
    assert growth([]) == {}


def test_gauges_tell_each_part(seen: Seen) -> None:
    gauges = ProcessGauges(lambda: {**itself("replica")(), "gone": 2**22 + 1})
    assert gauges
    told = {(name, part): value for value, name, part in seen["timbre_process_bytes"]}
    assert {part for _, part in told} == {"private", "store", "file", "gpu"}
    assert {process for process, _ in told} == {"replica"}
    assert told["replica", "private"] > 10 * MIB
    kinds = {kind for _, _, kind in seen["timbre_process_open"]}
    assert kinds == {"files", "threads"}


def test_a_proxy_watches_itself_and_who_started_it() -> None:
    assert processes.proxy_and_raylet() == {"proxy": os.getpid(), "raylet": os.getppid()}
