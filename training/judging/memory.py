# pyright: basic
"""Peak resident memory of a running service's deployments."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PERIOD_S = 0.25
TITLE = "ray::ServeReplica:timbre:"


@dataclass(slots=True)
class PeakMemory:
    """Peak resident memory of the replicas."""

    peak_bytes: int = 0
    """Of all replicas together, at one moment; shared pages count in each."""
    of_stage_bytes: dict[str, int] = field(default_factory=dict)
    """The largest of each stage's replicas."""


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Watch this machine's replicas until the context ends."""
    seen, ended = PeakMemory(), threading.Event()
    thread = threading.Thread(target=_watch, args=(seen, ended), name="peak-memory", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _watch(seen: PeakMemory, ended: threading.Event) -> None:
    while not ended.wait(PERIOD_S):
        sizes = replica_bytes()
        seen.peak_bytes = max(seen.peak_bytes, sum(size for _, size in sizes))
        for stage, size in sizes:
            seen.of_stage_bytes[stage] = max(size, seen.of_stage_bytes.get(stage, 0))


def replica_bytes() -> list[tuple[str, int]]:
    """Stage and resident size of every replica on this machine."""
    import psutil

    sizes = []
    for process in psutil.process_iter():
        try:
            title = " ".join(process.cmdline())
            if title.startswith(TITLE):
                size = process.memory_info().rss
                sizes.append((stage_of(title), size))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return sizes


def stage_of(title: str) -> str:
    """The deployment in a replica's process title, which ends in a method's name during a call."""
    return title.removeprefix(TITLE).split()[0].partition(".")[0]
