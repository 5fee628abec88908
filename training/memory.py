# pyright: basic
"""Peak resident memory of a running service's deployments. Knows no audio."""

from __future__ import annotations

import threading
from types import TracebackType

PERIOD_S = 0.25
TITLE = "ray::ServeReplica:timbre:"


class PeakMemory:
    """Watches from `with` to its end.

    peak_bytes: of all replicas together, at one moment; pages that they share count in each.
    of_stage_bytes: the largest seen of each stage's replicas.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.of_stage_bytes: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD_S):
            sizes = replica_bytes()
            self.peak_bytes = max(self.peak_bytes, sum(size for _, size in sizes))
            for stage, size in sizes:
                self.of_stage_bytes[stage] = max(size, self.of_stage_bytes.get(stage, 0))


def replica_bytes() -> list[tuple[str, int]]:
    """Stage and resident size of every replica on this machine."""
    import psutil

    sizes = []
    for process in psutil.process_iter():
        try:
            title = " ".join(process.cmdline())
            if title.startswith(TITLE):
                sizes.append((title.removeprefix(TITLE).split()[0], process.memory_info().rss))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return sizes
