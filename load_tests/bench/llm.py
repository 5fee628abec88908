"""Measures the LLM engine beside transformers with the same weights, in one run.

    python -m load_tests.bench.llm --size tiny --device cpu [--sections decode,join] [--json FILE]
    python -m load_tests.bench.llm --size 3b --device cuda --batch 1,4,8,16,32 --json FILE

Contenders run alternately, so other load hits all alike; the best run of each counts, and only
ratios within one invocation are meaningful.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from load_tests.bench.energy import Meter, energy_meter
from load_tests.bench.llm_arrivals import measure_arrivals
from load_tests.bench.llm_baselines import Prompts, TransformersStep1, generate, generate_batch
from load_tests.bench.llm_engines import Bench, random_step1
from load_tests.bench.provenance import provenance
from pipeline.contracts import Sampling
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.llm.engine.engine import AudioVocabulary, Engine
from pipeline.stepaudio.llm.prompt import PromptBuilder
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM, load_step1
from pipeline.stepaudio.tokens import AUDIO_TOKENS, GROUP_TOKENS

PROMPT_TOKENS = 200
PREFIX_TOKENS = 600
JOINING_TOKENS = 1500
WARP: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 1.0}
SECTIONS = ("decode", "prefix", "quantization", "join", "arrivals")
GENERATE, STATIC, BATCHING, OURS = "generate, dynamic", "generate, static", "cont. batching", "ours"
PREFILL_CHUNK_TOKENS = {"cpu": 32, "cuda": 128}  # as the serve configs


@dataclass(frozen=True)
class Row:
    """One measurement; bar is None where there is none."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    is_lower_better: bool = False

    @property
    def is_met(self) -> bool:
        return self.bar is None or (self.value <= self.bar) == self.is_lower_better


async def draw(engine: Engine, prompt: list[int], n_tokens: int, seed: int = 0) -> None:
    """Draw n_tokens after a prompt."""
    ids = np.array(prompt, np.int32)
    drawn = 0
    async for chunk in engine.stream(ids, Sampling(seed=seed, max_tokens=n_tokens)):
        drawn += len(chunk.ids)
    assert drawn == n_tokens


def ours(engine: Engine, prompts: Prompts, n_tokens: int) -> float:
    """Seconds that the engine takes for all prompts at once."""

    async def run() -> None:
        await asyncio.gather(*(draw(engine, p, n_tokens, i) for i, p in enumerate(prompts)))

    start = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - start


def best_of(bench: Bench, turns: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Runs the contenders alternately → the least seconds of each.

    A failing contender is skipped with a message; ours must not fail.
    """
    best = dict.fromkeys(turns, float("inf"))
    for _ in range(bench.repeats + 1):  # one more: the first run warms up
        for name in list(best):
            try:
                best[name] = min(best[name], turns[name]())
            except RuntimeError as error:
                if name not in (GENERATE, STATIC, BATCHING):
                    raise
                del best[name]
                bench.left_out.append(f"{name}: {error}"[:200])
                print(f"left out, {bench.left_out[-1]}")
    return best


def contenders(
    bench: Bench, baseline: TransformersStep1, engine: Engine, prompts: Prompts, n_tokens: int
) -> dict[str, Callable[[], float]]:
    """What to time: each draws n_tokens after every prompt."""

    def of(cache: str) -> Callable[[], float]:
        return lambda: generate(baseline, prompts, n_tokens, cache=cache, warp=WARP)[0]

    return {
        GENERATE: of("dynamic"),
        STATIC: of("static"),
        BATCHING: lambda: generate_batch(baseline, prompts, n_tokens, WARP)[0],
        OURS: lambda: ours(engine, prompts, n_tokens),
    }


def measure_decode(bench: Bench) -> list[Row]:
    """Tokens a second, time to the first group and energy, per batch size and contender."""
    baseline = TransformersStep1(bench.model).eval()
    copied = copy_bandwidth(bench.model.device)
    meter = energy_meter(bench.model.device)
    rows = [Row("copy bandwidth, read and write", copied / 1e9, "GB/s")]
    steps_s: dict[int, float] = {}
    for n in bench.batches:
        prompts = bench.prompts(n, PROMPT_TOKENS)
        with bench.engine(n) as engine:
            turns = contenders(bench, baseline, engine, prompts, bench.n_tokens)
            whole = best_of(bench, turns)
            first = best_of(bench, contenders(bench, baseline, engine, prompts, GROUP_TOKENS))
            joules = {name: energy_of(meter, turns[name]) for name in whole} if meter else {}
            read_bytes = engine.gauges().weight_bytes - bench.model.model.embed_tokens.weight.nbytes
        steps_s[n] = (whole[OURS] - first[OURS]) / (bench.n_tokens - GROUP_TOKENS)
        rows += [Row(f"batch {n}: {k}", n * bench.n_tokens / s, "tok/s") for k, s in whole.items()]
        rows += [
            Row(f"batch {n}: {k}, to the first group", s * 1e3, "ms") for k, s in first.items()
        ]
        rows += [
            Row(f"batch {n}: {k}, energy", j / n / bench.n_tokens, "J/tok")
            for k, j in joules.items()
        ]
        floor_s = (read_bytes + n * _stream_bytes(bench)) / copied
        rows += compared(bench, n, whole, steps_s, floor_s)
    if meter is None:
        print("energy: not told by this machine")
    return rows


def compared(
    bench: Bench, n: int, whole: dict[str, float], steps_s: dict[int, float], floor_s: float
) -> list[Row]:
    """Ours against the others, against the bandwidth, and against our smallest batch."""
    is_held = bench.is_tiny and not bench.is_cuda
    rows: list[Row] = []
    if others := [whole[name] for name in (GENERATE, STATIC) if name in whole]:
        bar = 2.0 if is_held and n == 1 else None
        rows.append(Row(f"batch {n}: ours / generate", min(others) / whole[OURS], "x", bar))
    if BATCHING in whole:
        bar = 2.5 if is_held and n == 8 else None
        rows.append(Row(f"batch {n}: ours / batching", whole[BATCHING] / whole[OURS], "x", bar))
    share = 100 * floor_s / steps_s[n]
    bar = 80.0 if bench.is_cuda and n == 1 else None
    rows.append(Row(f"batch {n}: step", steps_s[n] * 1e3, "ms"))
    rows.append(Row(f"batch {n}: share of the bandwidth floor", share, "%", bar))
    least = bench.batches[0]
    if n > least:
        rate = n / steps_s[n] * steps_s[least] / least
        bar = 20.0 if bench.is_cuda and (least, n) == (1, 32) else None
        rows.append(Row(f"batch {n}: rate over batch {least}", rate, "x", bar))
    return rows


def energy_of(meter: Meter, turn: Callable[[], float]) -> float:
    """Joules of one run."""
    before = meter()
    turn()
    return meter() - before


def measure_prefix(bench: Bench) -> list[Row]:
    """Time to the first group after a prefix that was seen before, with reuse and without."""
    prefix = bench.prompts(1, PREFIX_TOKENS)[0]
    prefix[-1] = bench.vocabulary.stop_id
    texts = iter(bench.prompts(1000, 40))
    budget = 2 * len(bench.model.model.layers) * (PREFIX_TOKENS + 1) * _token_bytes(bench)
    with bench.engine(1, prefix_cache_bytes=budget) as on, bench.engine(1) as off:
        best = best_of(
            replace(bench, repeats=bench.repeats + 3),
            {
                "on": lambda: first_token(on, prefix + next(texts)),
                "off": lambda: first_token(off, prefix + next(texts)),
            },
        )
        assert on.gauges().prefix_hits_total > 0
    bar = 60.0 if bench.is_cuda else None
    return [
        Row("first token, cached prefix of 600", best["on"] * 1e3, "ms", bar, is_lower_better=True),
        Row("first token, no reuse", best["off"] * 1e3, "ms"),
        Row("prefix reuse, gain", best["off"] / best["on"], "x"),
    ]


def first_token(engine: Engine, prompt: list[int]) -> float:
    """Seconds from the request to the first draw, on the engine's own clock."""
    with drawn_at(engine) as times_s:
        start_s = time.perf_counter()
        asyncio.run(draw(engine, prompt, GROUP_TOKENS))
    return times_s[0] - start_s


@contextmanager
def drawn_at(engine: Engine) -> Iterator[list[float]]:
    """When each step's tokens were on the host."""
    times_s: list[float] = []
    plain = engine._sampler.draw

    def timed(*args: Any) -> list[int]:
        choices = plain(*args)
        times_s.append(time.perf_counter())
        return choices

    engine._sampler.draw = timed  # pyright: ignore[reportAttributeAccessIssue] same arguments
    try:
        yield times_s
    finally:
        engine._sampler.draw = plain


def measure_quantization(bench: Bench) -> list[Row]:
    """Steps with quantised weights against bfloat16."""
    model = bench.model
    was = model.dtype
    model.to(torch.bfloat16)
    prompts = bench.prompts(1, PROMPT_TOKENS)
    with (
        bench.engine(1) as plain,
        bench.engine(1, quantization="int8") as int8,
        bench.engine(1, quantization="int4") as int4,
    ):
        engines = {"bfloat16": plain, "int8": int8, "int4": int4}
        best = best_of(
            bench,
            {
                name: lambda engine=engine: ours(engine, prompts, bench.n_tokens)
                for name, engine in engines.items()
            },
        )
    model.to(was)
    bar = 1.8 if bench.is_cuda else None
    return [
        *(Row(f"batch 1, {k}", bench.n_tokens / s, "tok/s") for k, s in best.items()),
        Row("int8 / bfloat16", best["bfloat16"] / best["int8"], "x"),
        Row("int4 / bfloat16", best["bfloat16"] / best["int4"], "x", bar),
    ]


def measure_join(bench: Bench) -> list[Row]:
    """How much a joining prefill stretches the gaps of a running stream."""
    worst = []
    for _ in range(bench.repeats):
        with bench.engine(2) as engine:
            gaps_s, joined = asyncio.run(_join(engine, bench))
        alone = float(np.median(gaps_s[: joined[0]]))
        during = gaps_s[joined[0] : joined[1]]
        quiet = float(np.percentile(gaps_s[: joined[0]], 99))
        gaps = (float(np.percentile(during, 99)), float(np.median(during)), quiet)
        worst.append([gap / alone for gap in gaps])
    best_worst, best_median, quiet = min(worst)
    return [
        Row("gap while 1,500 tokens join, 99th / median alone", best_worst, "x", 3.0, True),
        Row("gap while 1,500 tokens join, median / median alone", best_median, "x", 3.0, True),
        Row("gap alone, 99th / median: the machine's own noise", quiet, "x"),
    ]


async def _join(engine: Engine, bench: Bench) -> tuple[np.ndarray, tuple[int, int]]:
    with drawn_at(engine) as times_s:  # every step runs the stream that was there first
        running = asyncio.create_task(draw(engine, bench.prompts(1, PROMPT_TOKENS)[0], 1500))
        while len(times_s) < 200:  # noqa: ASYNC110  # the other thread fills it
            await asyncio.sleep(0.001)
        start = len(times_s)
        await draw(engine, bench.prompts(2, JOINING_TOKENS)[0], GROUP_TOKENS)
        end = len(times_s) - GROUP_TOKENS
        running.cancel()
        await asyncio.wait([running])
    assert end - start > 3, "the prefill was over before a step ran beside it"
    return np.diff(times_s), (start, end)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read plus written, of a large copy; the best of some."""
    source = torch.ones(2**28 if device.type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    best_s = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - start)
    return 2 * source.nbytes / best_s


def _stream_bytes(bench: Bench) -> int:
    """Bytes of keys and values that one stream's step reads, on the way's average."""
    return _token_bytes(bench) * (PROMPT_TOKENS + bench.n_tokens // 2)


def _token_bytes(bench: Bench) -> int:
    config = bench.model.config
    per_layer = 2 * config.num_attention_groups * config.head_size * bench.model.dtype.itemsize
    return per_layer * config.num_hidden_layers


def read_model(options: argparse.Namespace) -> tuple[Step1ForCausalLM, AudioVocabulary]:
    """The embedded checkpoint, or random weights of the shape asked for."""
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    if options.size == "tiny":
        layout = CheckpointLayout.at(resolve_model("tiny"))
        vocabulary = PromptBuilder(layout.text_tokenizer).vocabulary
        return load_step1(layout.editx, options.device, dtype), vocabulary
    fields: dict[str, int] = {}
    if options.size == "custom":
        names = ("hidden_size", "intermediate_size", "num_attention_heads")
        names += ("num_attention_groups", "num_hidden_layers")
        fields = dict(zip(names, map(int, options.shape.split(",")), strict=True))
    config = Step1Config(**fields)
    model = random_step1(config, options.device, dtype)
    audio_base = config.vocab_size - AUDIO_TOKENS
    return model, AudioVocabulary(audio_base, stop_id=3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("tiny", "3b", "custom"), default="tiny")
    parser.add_argument("--shape", help="custom: width,mlp,heads,groups,layers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", default="1,4,8,16,32")
    parser.add_argument("--tokens", type=int, default=200, help="drawn per stream")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prefill-chunk", type=int, help="left out: as the serve config")
    parser.add_argument("--arrivals", type=int, default=1000, help="requests with Poisson arrivals")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    origin = provenance(options.device)
    model, vocabulary = read_model(options)
    bench = Bench(
        model=model,
        vocabulary=vocabulary,
        batches=[int(n) for n in options.batch.split(",")],
        n_tokens=options.tokens,
        repeats=options.repeats,
        prefill_chunk_tokens=options.prefill_chunk or PREFILL_CHUNK_TOKENS[options.device],
        n_arrivals=options.arrivals,
        is_tiny=options.size == "tiny",
    )
    measures: dict[str, Callable[[], list[Row]]] = {
        "decode": lambda: measure_decode(bench),
        "prefix": lambda: measure_prefix(bench),
        "quantization": lambda: measure_quantization(bench),
        "join": lambda: measure_join(bench),
        "arrivals": lambda: [Row(*row) for row in measure_arrivals(bench)],
    }
    rows: list[Row] = []
    print(f"{'':56} {'value':>10} {'bar':>6}")
    for section in options.sections.split(","):
        for row in measures[section]():
            rows.append(row)
            bar = "" if row.bar is None else f"{row.bar:g}"
            mark = "" if row.is_met else "  MISSED"
            print(f"{row.what:56} {row.value:10.4g} {bar:>6} {row.unit}{mark}", flush=True)
    results = {
        **origin,
        "model": asdict(model.config),
        "left_out": bench.left_out,
        "energy": "told" if energy_meter(model.device) else "not told",
        "rows": [asdict(row) for row in rows],
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
