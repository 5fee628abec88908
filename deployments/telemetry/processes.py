"""Processes of the service: their memory, threads and open files; and whether they keep growing."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import psutil

from deployments.telemetry import metrics as table
from deployments.telemetry.gauges import keep_published

KIB = 2**10
MIB = 2**20
SMI_TIMEOUT_S = 10.0

Processes = Callable[[], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process takes."""

    pid: int
    name: str
    """What it is: Ray's title of a worker, else the name of its program."""
    private_bytes: int
    """Memory of its own."""
    store_bytes: int
    """Pages of the object store that it has touched; processes share them."""
    file_bytes: int
    """Mapped files, such as weights; shared, too."""
    gpu_bytes: int
    """Memory of the GPU."""
    files: int
    """Open file descriptors."""
    threads: int

    @property
    def rss_bytes(self) -> int:
        """All that lies in memory, shared or not."""
        return self.private_bytes + self.store_bytes + self.file_bytes

    @property
    def label(self) -> str:
        """Tells it from others of its name."""
        return f"{self.name} ({self.pid})"


def use_of(pid: int, name: str | None = None) -> ProcessUse | None:
    """What a process takes now, its GPU aside; None when it is gone or another user's."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            private, store, file = _memory(process)
            return ProcessUse(
                pid,
                _title(process) if name is None else name,
                private,
                store,
                file,
                0,
                process.num_fds(),
                process.num_threads(),
            )
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def own_use(name: str = "") -> ProcessUse:
    """What this process takes, with what torch holds of the GPU.

    Raises RuntimeError where the system does not say.
    """
    use = use_of(psutil.Process().pid, name)
    if use is None:
        raise RuntimeError("the system does not say what memory this process takes")
    return replace(use, gpu_bytes=held_by_torch())


def held_by_torch() -> int:
    """Bytes of the GPU that torch holds in this process; 0 where it was not loaded."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return torch.cuda.memory_reserved()


def service_processes(root_pid: int) -> list[ProcessUse]:
    """A process and all below it: of `RunningService.pid`, the service and its Ray."""
    try:
        root = psutil.Process(root_pid)
        pids = [root.pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []
    gpu = gpu_bytes_by_pid()
    uses = [use for pid in pids if (use := use_of(pid)) is not None]
    return [replace(use, gpu_bytes=gpu.get(use.pid, 0)) for use in uses]


def gpu_bytes_by_pid() -> dict[int, int]:
    """What each process takes of this machine's GPUs, by the driver; empty without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    query = [tool, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    told = subprocess.run(  # noqa: S603 - a fixed command
        query, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=False
    )
    found: dict[int, int] = {}
    for line in told.stdout.splitlines():
        pid, _, used = line.partition(",")
        if pid.strip().isdigit() and used.strip().isdigit():
            found[int(pid)] = found.get(int(pid), 0) + int(used) * MIB
    return found


def growth(samples: Sequence[Sequence[ProcessUse]]) -> dict[str, float]:
    """How much each process grew, as a share of what it took at first; by label.

    samples: of `service_processes`, at even intervals, once all is warm. Compared are the medians
    of private memory in the first and in the last quarter; a process that was not there from
    beginning to end is left out.
    """
    series: dict[str, list[int]] = {}
    for sample in samples:
        for use in sample:
            series.setdefault(use.label, []).append(use.private_bytes)
    quarter = max(1, len(samples) // 4)
    return {
        label: statistics.median(taken[-quarter:]) / first - 1
        for label, taken in series.items()
        if len(taken) == len(samples) and (first := statistics.median(taken[:quarter]))
    }


class ProcessGauges:
    """Publishes what some processes of this machine take. processes: their pids, by name."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._bytes = table.PROCESS_BYTES.open()
        self._open = table.PROCESS_OPEN.open()
        keep_published(self)

    def publish(self) -> None:
        """Look at each, and set its gauges."""
        own = psutil.Process().pid
        for name, pid in self._processes().items():
            use = own_use(name) if pid == own else use_of(pid, name)
            if use is None:
                continue
            parts = {
                "private": use.private_bytes,
                "store": use.store_bytes,
                "file": use.file_bytes,
                "gpu": use.gpu_bytes,
            }
            for part, value in parts.items():
                self._bytes.set(value, tags={"process": name, "part": part})
            for kind, value in {"files": use.files, "threads": use.threads}.items():
                self._open.set(value, tags={"process": name, "kind": kind})


def itself(name: str) -> Processes:
    """This process, under a name."""
    return lambda: {name: psutil.Process().pid}


def proxy_and_raylet() -> Mapping[str, int]:
    """Of a machine's HTTP proxy, from within: itself, and Ray's raylet, which started it."""
    process = psutil.Process()
    parent = process.parent()
    found = {"proxy": process.pid}
    return found if parent is None else {**found, "raylet": parent.pid}


@cache
def watch_proxy() -> ProcessGauges:
    """Publish what this HTTP proxy and its machine's raylet take, for as long as it runs."""
    return ProcessGauges(proxy_and_raylet)


def _title(process: psutil.Process) -> str:
    line = process.cmdline()
    if not line or not line[0].startswith("ray::"):
        return process.name()
    return line[0].partition(".")[0]  # behind it: the method that is at work just now


def _memory(process: psutil.Process) -> tuple[int, int, int]:
    """Private memory, touched pages of shared memory, mapped files; bytes."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:  # no Linux
        return process.memory_info().rss, 0, 0
    words = (line.split() for line in status.splitlines() if line.endswith(" kB"))
    kib = {name: int(size) for name, size, _ in words}
    parts = ("RssAnon:", "RssShmem:", "RssFile:")
    private, store, file = (kib.get(part, 0) * KIB for part in parts)
    return private, store, file
