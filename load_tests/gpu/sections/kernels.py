# pyright: basic
"""Compiles the LLM's Triton kernels ahead of the sections that launch them, on all cores.

At a replica's start they are compiled one by one as they are tried; the kit has no time for that.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from load_tests.bench.report import Row
from load_tests.gpu.sections.section import Section
from pipeline.stepaudio.llm.step1 import Step1Config

PROCESSES = 14


@dataclass(frozen=True)
class Launch:
    """One product of a layer."""

    rows: int
    """Rows of the batch."""
    tiling: Any
    n: int
    k: int
    gated: bool = False
    normed: bool = False
    residual: bool = False


def measure(section: Section) -> None:
    """Fill the section; a no-op without Triton."""
    section.part("products", lambda: compile_rows(section), 20)


def compile_rows(section: Section) -> Iterator[Row]:
    """How many kernels there are, and how long compiling them took."""
    if not section.is_cuda or importlib.util.find_spec("triton") is None:
        yield Row("kernels compiled", 0, "")
        return
    started_s = time.perf_counter()
    work = launches(section)
    n = min(PROCESSES, os.cpu_count() or 1)
    with multiprocessing.get_context("spawn").Pool(n) as pool:
        pool.map(launch, work, chunksize=1)
    yield Row("kernels compiled", len(work), "")
    yield Row("compiled in", time.perf_counter() - started_s, "s")


def launches(section: Section) -> list[Launch]:
    """Every product of a layer, for every batch that is measured, in every tiling offered."""
    from pipeline.stepaudio.llm.kernels.product import BATCH_TILINGS, ROW_TILINGS

    config = Step1Config(**section.sizes.llm)
    width, inner = config.hidden_size, config.intermediate_size
    kept = 2 * config.num_attention_groups * config.head_size
    shapes: tuple[dict[str, Any], ...] = (
        {"n": width + kept, "k": width, "normed": True},
        {"n": width, "k": width, "residual": True},
        {"n": inner, "k": width, "gated": True, "normed": True},
        {"n": width, "k": inner, "residual": True},
    )
    padded = sorted({max(16, 1 << (n - 1).bit_length()) for n in section.sizes.batches if n > 1})
    pairs = [(1, t) for t in ROW_TILINGS] + [(n, t) for n in padded for t in BATCH_TILINGS]
    return [Launch(rows, tiling, **shape) for rows, tiling in pairs for shape in shapes]


def launch(work: Launch) -> None:
    """Compile a kernel by running it once."""
    from triton.runtime.errors import OutOfResources

    from pipeline.stepaudio.llm.kernels.product import batch_product, row_product

    def zeros(*sizes: int) -> torch.Tensor:
        return torch.zeros(*sizes, device="cuda", dtype=torch.bfloat16)

    x, weight = zeros(work.rows, work.k), zeros(work.n * (1 + work.gated), work.k)
    residual = zeros(work.rows, work.n) if work.residual else None
    options: dict[str, Any] = {"residual": residual, "gated": work.gated}
    if work.rows == 1 and work.normed:
        options |= {"gain": zeros(work.k), "eps": 1e-5}
    try:
        (row_product if work.rows == 1 else batch_product)(work.tiling, x, weight, **options)
        torch.cuda.synchronize()
    except OutOfResources:
        return
