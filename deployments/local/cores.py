"""The number of cores that this process may use, by affinity and container limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """At least one. Ray itself counts all cores of the machine, ignoring affinity."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not on macOS
    count = len(affinity()) if affinity is not None else psutil.cpu_count() or 1
    return max(1, int(min(count, *_quotas(), count)))


def _quotas() -> Iterator[float]:
    """A container's limit in cores, by either version of cgroups."""
    files = ([CGROUP / "cpu.max"], [CGROUP / f"cpu/cpu.cfs_{n}_us" for n in ("quota", "period")])
    for paths in files:
        try:
            quota, period = " ".join(path.read_text() for path in paths).split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():  # neither "max" nor -1
            yield int(quota) / int(period)
