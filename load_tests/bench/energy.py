"""Energy by the machine's own meters: NVML for a GPU, RAPL for the processor's packages.

Includes everything else that runs on the device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"

Meter = Callable[[], float]  # joules since some moment


def energy_meter(device: torch.device) -> Meter | None:
    """The meter of a device; None without one."""
    return _nvml_meter(device) if device.type == "cuda" else rapl_meter(POWERCAP)


def rapl_meter(powercap: Path) -> Meter | None:
    """The meter of the processor packages; None if `powercap` is not readable."""
    packages = [p for p in sorted(powercap.glob("intel-rapl:*")) if p.name.count(":") == 1]
    try:
        ranges_uj = [int((p / "max_energy_range_uj").read_text()) for p in packages]
        seen_uj = [int((p / "energy_uj").read_text()) for p in packages]
    except OSError:
        return None
    if not packages:
        return None
    total_uj = 0

    def read() -> float:
        """Counters start over at their range; they must be read before they do so twice."""
        nonlocal total_uj
        for index, package in enumerate(packages):
            now_uj = int((package / "energy_uj").read_text())
            total_uj += (now_uj - seen_uj[index]) % (ranges_uj[index] + 1)
            seen_uj[index] = now_uj
        return total_uj / 1e6

    return read


def _nvml_meter(device: torch.device) -> Meter | None:
    try:
        nvml = ctypes.CDLL(NVML)
    except OSError:
        return None
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    found = (
        nvml.nvmlInit_v2() == 0
        and nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)) == 0
        and nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) == 0
    )
    if not found:
        return None

    def read() -> float:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return millijoules.value / 1e3

    return read
