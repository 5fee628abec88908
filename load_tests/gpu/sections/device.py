# pyright: basic
"""The device itself: what it can copy and multiply, and what it costs to launch work on it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from importlib import metadata

import torch

from load_tests.bench.report import Row
from load_tests.gpu.sections.section import Section

PACKAGES = ("torch", "triton", "numpy", "transformers", "onnxruntime", "safetensors")
QUERY = (
    "name,memory.total,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem"
    ",power.limit,driver_version,temperature.gpu"
)
LAUNCHES = 2000
PRODUCTS = 20


def measure(section: Section) -> None:
    """Fill the section."""
    section.facts["packages"] = {name: _version(name) for name in PACKAGES}
    section.facts["cuda"] = torch.version.cuda
    section.part("copy", lambda: [copy_row(section)])
    section.part("products", lambda: product_rows(section))
    section.part("launches", lambda: [launch_row(section)])
    section.facts["nvidia_smi"] = _nvidia_smi()  # after the work: clocks as they were under load
    section.write()


def timed_s(work: Callable[[], object], device: str, repeats: int) -> float:
    """Seconds of one call, the mean of `repeats` in a row."""
    work()
    synchronize(device)
    started_s = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize(device)
    return (time.perf_counter() - started_s) / repeats


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def copy_row(section: Section) -> Row:
    """Bytes a second, read plus written, of a large copy."""
    source = torch.randint(0, 255, (section.sizes.copy_mib * 2**20,), dtype=torch.uint8)
    source = source.to(section.device)
    target = torch.empty_like(source)
    best_s = min(timed_s(lambda: target.copy_(source), section.device, 5) for _ in range(4))
    return Row("copy, read and written", 2 * source.nbytes / best_s / 1e9, "GB/s", better="higher")


def product_rows(section: Section) -> list[Row]:
    """Floating-point operations a second of a square product."""
    n, rows = section.sizes.matmul_width, []
    for name, dtype, allow_tf32 in (
        ("bfloat16", torch.bfloat16, False),
        ("float32 as TF32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = allow_tf32
        a, b = (torch.randn(n, n, device=section.device).to(dtype) for _ in range(2))
        took_s = timed_s(lambda a=a, b=b: a @ b, section.device, PRODUCTS if allow_tf32 else 8)
        rows.append(Row(f"product, {name}", 2 * n**3 / took_s / 1e12, "TFLOP/s", better="higher"))
    return rows


def launch_row(section: Section) -> Row:
    """What a small operation costs when nothing waits for it."""
    x = torch.zeros(16, device=section.device)
    return Row(
        "one small operation", timed_s(lambda: x.add_(1), section.device, LAUNCHES) * 1e6, "us"
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _nvidia_smi() -> dict[str, str]:
    if shutil.which("nvidia-smi") is None:
        return {}
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return dict(zip(QUERY.split(","), map(str.strip, done.stdout.split(",")), strict=False))
