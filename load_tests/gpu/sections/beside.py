# pyright: basic
"""transformers' `generate` and continuous batching beside the engine, on the same weights."""

from __future__ import annotations

from collections.abc import Iterator

from load_tests.bench.llm import WARP, ours
from load_tests.bench.llm_baselines import TransformersStep1, generate, generate_batch
from load_tests.bench.llm_engines import Bench
from load_tests.bench.report import Row
from load_tests.gpu.sections.llm import model_of, vocabulary
from load_tests.gpu.sections.section import Section

TOKENS = 40  # `generate` takes some 30 ms for each
ALONE, TOGETHER = (1, 8), (1, 8, 32)


def measure(section: Section) -> None:
    """Fill the section."""
    bench = Bench(
        model=model_of(section),
        vocabulary=vocabulary(section),
        batches=[],
        n_tokens=TOKENS if section.is_cuda else section.sizes.tokens,
        repeats=1,
        prefill_chunk_tokens=128 if section.is_cuda else 32,
        n_arrivals=0,
        is_tiny=section.sizes.is_rehearsal,
        context_tokens=section.sizes.context_tokens,
    )
    baseline = TransformersStep1(bench.model).eval()
    few = section.sizes.is_rehearsal
    for n in (1,) if few else TOGETHER:
        section.part(f"batch {n}: ours", lambda n=n: ours_rows(section, bench, n), 5)
    for n in (1,) if few else ALONE:
        section.part(f"batch {n}: generate", lambda n=n: alone_rows(section, bench, baseline, n), 8)
    for n in (1,) if few else TOGETHER:
        part = f"batch {n}: continuous batching"
        section.part(part, lambda n=n: batch_rows(section, bench, baseline, n), 8)


def ours_rows(section: Section, bench: Bench, n: int) -> Iterator[Row]:
    """The engine, prompts' prefill included as for the others."""
    prompts = bench.prompts(n, section.sizes.prompt_tokens)
    with bench.engine(n) as engine:
        took_s = min(ours(engine, prompts, bench.n_tokens) for _ in range(3))
    yield Row(f"batch {n}: ours", n * bench.n_tokens / took_s, "tok/s", better="higher")


def alone_rows(
    section: Section, bench: Bench, baseline: TransformersStep1, n: int
) -> Iterator[Row]:
    prompts = bench.prompts(n, section.sizes.prompt_tokens)
    for cache, name in (("dynamic", "generate"), ("static", "generate, static cache")):
        took_s = min(
            generate(baseline, prompts, bench.n_tokens, cache=cache, warp=WARP)[0] for _ in range(2)
        )
        yield from _beside(section, bench, n, name, took_s)


def batch_rows(
    section: Section, bench: Bench, baseline: TransformersStep1, n: int
) -> Iterator[Row]:
    prompts = bench.prompts(n, section.sizes.prompt_tokens)
    took_s = min(generate_batch(baseline, prompts, bench.n_tokens, WARP)[0] for _ in range(2))
    yield from _beside(section, bench, n, "continuous batching", took_s)


def _beside(section: Section, bench: Bench, n: int, name: str, took_s: float) -> Iterator[Row]:
    rate = n * bench.n_tokens / took_s
    yield Row(f"batch {n}: {name}", rate, "tok/s", better="higher")
    rates = {row.what: row.value for row in section.rows}
    if mine := rates.get(f"batch {n}: ours"):
        yield Row(f"batch {n}: ours over {name}", mine / rate, "x", better="higher")
