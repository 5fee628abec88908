# pyright: basic
"""Which kernels a piece of work spends its time in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

TOP = 20
NAME_LENGTH = 110


def kernel_table(work: Callable[[], object], device: str, repeats: int = 3) -> list[dict[str, Any]]:
    """The kernels (on a CPU: the operators) that cost most, per call of `work`.

    kernel: its name. us: in one call. share: of all of them, in percent. launches: in one call. The
    last row is the sum.
    """
    on_gpu = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    work()
    if on_gpu:
        torch.cuda.synchronize()
    with profile(activities=activities) as found:
        for _ in range(repeats):
            work()
        if on_gpu:
            torch.cuda.synchronize()
    cost = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    costs = [(getattr(e, cost), e.count, e.key) for e in found.key_averages()]
    if on_gpu:  # operators carry their kernels' time too; kernels alone are on the device
        costs = [
            (e.self_device_time_total, e.count, e.key)
            for e in found.key_averages()
            if "CUDA" in str(e.device_type)
        ]
    costs = sorted((c for c in costs if c[0] > 0), reverse=True)
    whole_us = sum(c[0] for c in costs)
    rows = [_row(us, n, name, whole_us, repeats) for us, n, name in costs[:TOP]]
    n_all = sum(c[1] for c in costs)
    return [*rows, _row(whole_us, n_all, "all", whole_us, repeats)]


def _row(us: float, n: int, name: str, whole_us: float, repeats: int) -> dict[str, Any]:
    return {
        "kernel": name[:NAME_LENGTH],
        "us": round(us / repeats, 1),
        "share": round(100 * us / whole_us, 1) if whole_us else 0.0,
        "launches": round(n / repeats, 1),
    }
