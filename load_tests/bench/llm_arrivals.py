"""Open-loop load on the engine: mixed-length requests that arrive as a Poisson process."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.contracts import GROUP_S, Sampling
from pipeline.stepaudio.tokens import GROUP_TOKENS

if TYPE_CHECKING:
    from load_tests.bench.llm_engines import Bench
    from pipeline.stepaudio.llm.engine.engine import Engine

SLOTS = 8
LOAD = 0.7  # of the rate at which the engine, always full, finished a sample of the requests
SAMPLE = 40  # requests in that sample
PROMPTS_TOKENS = (100, 1500)
ANSWERS_TOKENS = (25, 600)

Result = tuple[str, float, str]


@dataclass
class Served:
    """When a request came and when its groups did, seconds."""

    arrived_s: float
    groups_s: list[float] = field(default_factory=list)

    @property
    def is_smooth(self) -> bool:
        """Whether playback from the first group on never waits for a group."""
        first = self.groups_s[0]
        return all(at <= first + i * GROUP_S for i, at in enumerate(self.groups_s))


def measure_arrivals(bench: Bench) -> list[Result]:
    """Goodput and the tail of the time between tokens."""
    rng = np.random.default_rng(0)
    n = bench.n_arrivals
    lengths = _mixed(rng, PROMPTS_TOKENS, n)
    answers = [a - a % GROUP_TOKENS for a in _mixed(rng, ANSWERS_TOKENS, n)]
    prompts = [bench.prompts(1, length)[0] for length in lengths]
    work = [(np.array(p, np.int32), a) for p, a in zip(prompts, answers, strict=True)]
    with bench.engine(SLOTS) as engine:
        sample = work[: min(SAMPLE, n)]
        start = time.perf_counter()
        asyncio.run(_serve(engine, sample, np.zeros(len(sample))))
        rate = LOAD * len(sample) / (time.perf_counter() - start)
        at_s = np.cumsum(rng.exponential(1 / rate, n))
        served, failures, took_s = asyncio.run(_serve(engine, work, at_s))
    gaps_s = np.concatenate([np.diff(s.groups_s) for s in served]) / GROUP_TOKENS
    waits_s = [s.groups_s[0] - s.arrived_s for s in served]
    smooth = [s for s in served if s.is_smooth]
    return [
        ("arrivals: requests", float(n), ""),
        ("arrivals: failed", float(failures), ""),
        ("arrivals: offered rate", rate, "req/s"),
        ("arrivals: throughput", sum(answers) / took_s, "tok/s"),
        ("arrivals: goodput, played without a wait", len(smooth) / took_s, "req/s"),
        ("arrivals: share played without a wait", 100 * len(smooth) / n, "%"),
        *(
            (f"arrivals: time per token, p{q}", float(np.percentile(gaps_s, q)) * 1e3, "ms")
            for q in (50, 95, 99)
        ),
        ("arrivals: time per token, largest", float(gaps_s.max()) * 1e3, "ms"),
        *(
            (f"arrivals: to the first group, p{q}", float(np.percentile(waits_s, q)) * 1e3, "ms")
            for q in (50, 99)
        ),
    ]


def _mixed(rng: np.random.Generator, limits: tuple[int, int], n: int) -> list[int]:
    low, high = np.log(limits)
    return np.exp(rng.uniform(low, high, n)).astype(int).tolist()


async def _serve(
    engine: Engine, work: list[tuple[np.ndarray, int]], at_s: np.ndarray
) -> tuple[list[Served], int, float]:
    start = time.perf_counter()

    async def one(index: int) -> Served:
        prompt, n_tokens = work[index]
        await asyncio.sleep(start + at_s[index] - time.perf_counter())
        served = Served(start + at_s[index])  # as scheduled: being late counts
        sampling = Sampling(seed=index, max_tokens=n_tokens)
        async for chunk in engine.stream(prompt, sampling):
            if len(chunk.ids):
                served.groups_s.append(time.perf_counter())
        return served

    done = await asyncio.gather(*(one(i) for i in range(len(work))), return_exceptions=True)
    took_s = time.perf_counter() - start
    served = [result for result in done if isinstance(result, Served)]
    return served, len(done) - len(served), took_s
