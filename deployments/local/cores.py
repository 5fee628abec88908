"""How many cores this process may use: what scheduler and container leave of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """At least one. Ray by itself counts the cores that exist, whatever `taskset` says."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not on macOS
    count = len(affinity()) if affinity is not None else psutil.cpu_count() or 1
    return max(1, int(min(count, *_quotas(), count)))


def _quotas() -> Iterator[float]:
    """Cores that a container's limit amounts to, by either version of cgroups."""
    files = ([CGROUP / "cpu.max"], [CGROUP / f"cpu/cpu.cfs_{n}_us" for n in ("quota", "period")])
    for paths in files:
        try:
            quota, period = " ".join(path.read_text() for path in paths).split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():  # neither "max" nor -1
            yield int(quota) / int(period)
