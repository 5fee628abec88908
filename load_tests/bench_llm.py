"""Measures the LLM engine beside transformers with the same weights, in one run.

    python -m load_tests.bench_llm --size tiny --device cpu [--sections decode,join] [--json FILE]
    python -m load_tests.bench_llm --size 3b --device cuda --batch 1,4,8,16,32 --json FILE

Other load on the machine hits every contender alike: they take turns, the best turn of each counts,
and only ratios within a run say anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from load_tests.llm_arrivals import measure_arrivals
from load_tests.llm_baselines import Prompts, TransformersStep1, generate, generate_batch
from load_tests.provenance import provenance
from pipeline.contracts import Sampling
from pipeline.stepaudio.engine import AudioVocabulary, Engine
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.prompt import PromptBuilder
from pipeline.stepaudio.step1 import Step1Config, Step1ForCausalLM, load_step1
from pipeline.stepaudio.tokens import AUDIO_TOKENS, GROUP_TOKENS

PROMPT_TOKENS = 200
PREFIX_TOKENS = 600
JOINING_TOKENS = 1500
WARP: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 1.0}
SECTIONS = ("decode", "prefix", "quantization", "join", "arrivals")
GENERATE, STATIC, BATCHING, OURS = "generate, dynamic", "generate, static", "cont. batching", "ours"


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


@dataclass(frozen=True)
class Bench:
    """A model and what to do with it."""

    model: Step1ForCausalLM
    vocabulary: AudioVocabulary
    batches: list[int]
    n_tokens: int
    repeats: int
    prefill_chunk_tokens: int
    n_arrivals: int
    is_tiny: bool

    @contextmanager
    def engine(self, slots: int, **options: Any) -> Iterator[Engine]:
        """An engine that never stops by itself, so that contenders draw equally many tokens."""
        settings = {
            "max_context_tokens": 2048,
            "queue_size": 2000,
            "queue_timeout_s": 600.0,
            "prefill_chunk_tokens": self.prefill_chunk_tokens,
            "chunk_tokens": GROUP_TOKENS,
        }
        engine = Engine(self.model, self.vocabulary, slots=slots, **{**settings, **options})
        engine._sampler._masks[:, self.vocabulary.stop] = -torch.inf
        try:
            yield engine
        finally:
            engine.close()

    def prompts(self, n: int, length: int) -> Prompts:
        """Prompts of which none has a prefix in common with another."""
        rng = np.random.default_rng(n)
        base = self.vocabulary.audio_base
        return rng.integers(base, base + AUDIO_TOKENS, (n, length)).tolist()


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


def best_of(repeats: int, turns: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The contenders take turns; → the least seconds of each."""
    best: dict[str, float] = {}
    for _ in range(repeats + 1):  # one more: the first turn warms up
        for name, turn in turns.items():
            best[name] = min(best.get(name, float("inf")), turn())
    return best


def measure_decode(bench: Bench) -> list[Row]:
    """Tokens a second and time to the first group, per batch size and contender."""
    baseline = TransformersStep1(bench.model).eval()
    rows: list[Row] = []
    per_stream = _step_bytes(bench)
    copied = copy_bandwidth(bench.model.device)
    rows.append(Row("copy bandwidth, read and write", copied / 1e9, "GB/s"))
    first_rate = 0.0
    for n in bench.batches:
        prompts = bench.prompts(n, PROMPT_TOKENS)
        with bench.engine(n) as engine:

            def turns(
                n_tokens: int, engine: Engine = engine, prompts: Prompts = prompts
            ) -> dict[str, Callable[[], float]]:
                def of(cache: str) -> Callable[[], float]:
                    return lambda: generate(baseline, prompts, n_tokens, cache=cache, warp=WARP)[0]

                return {
                    GENERATE: of("dynamic"),
                    STATIC: of("static"),
                    BATCHING: lambda: generate_batch(baseline, prompts, n_tokens, WARP)[0],
                    OURS: lambda: ours(engine, prompts, n_tokens),
                }

            whole = best_of(bench.repeats, turns(bench.n_tokens))
            first = best_of(bench.repeats, turns(GROUP_TOKENS))
        for name, took_s in whole.items():
            rows.append(Row(f"batch {n}: {name}", n * bench.n_tokens / took_s, "tok/s"))
        for name, took_s in first.items():
            rows.append(Row(f"batch {n}: {name}, to the first group", took_s * 1e3, "ms"))
        fastest = min(whole[GENERATE], whole[STATIC])
        bars = {1: (2.0, None), 8: (None, 2.5)}.get(n, (None, None))
        is_cpu = bench.is_tiny and bench.model.device.type == "cpu"
        bars = bars if is_cpu else (None, None)
        rows.append(Row(f"batch {n}: ours / generate", fastest / whole[OURS], "x", bars[0]))
        rows.append(Row(f"batch {n}: ours / batching", whole[BATCHING] / whole[OURS], "x", bars[1]))
        step_s = (whole[OURS] - first[OURS]) / (bench.n_tokens - GROUP_TOKENS)
        floor_s = (_weight_bytes(bench.model) + n * per_stream) / copied
        bar = 80.0 if n == 1 and not is_cpu else None
        rows.append(Row(f"batch {n}: step", step_s * 1e3, "ms"))
        rows.append(
            Row(f"batch {n}: share of the bandwidth floor", 100 * floor_s / step_s, "%", bar)
        )
        first_rate = first_rate or 1 / step_s
        if n > 1:
            bar = 20.0 if n == 32 and not is_cpu else None
            rows.append(
                Row(
                    f"batch {n}: rate over batch {bench.batches[0]}",
                    n / step_s / first_rate,
                    "x",
                    bar,
                )
            )
    return rows


def measure_prefix(bench: Bench) -> list[Row]:
    """Time to the first group after a prefix that was seen before, with reuse and without."""
    prefix = bench.prompts(1, PREFIX_TOKENS)[0]
    prefix[-1] = bench.vocabulary.stop_id
    texts = iter(bench.prompts(1000, 40))
    budget = 2 * len(bench.model.model.layers) * (PREFIX_TOKENS + 1) * _token_bytes(bench)
    with bench.engine(1, prefix_cache_bytes=budget) as on, bench.engine(1) as off:
        best = best_of(
            bench.repeats + 3,
            {
                "on": lambda: ours(on, [prefix + next(texts)], GROUP_TOKENS),
                "off": lambda: ours(off, [prefix + next(texts)], GROUP_TOKENS),
            },
        )
        assert on.gauges().prefix_hits_total > 0
    bar = 60.0 if bench.model.device.type == "cuda" else None
    return [
        Row("first group, cached prefix of 600", best["on"] * 1e3, "ms", bar, is_lower_better=True),
        Row("first group, no reuse", best["off"] * 1e3, "ms"),
        Row("prefix reuse, gain", best["off"] / best["on"], "x"),
    ]


def measure_quantization(bench: Bench) -> list[Row]:
    """Steps with quantised weights against bfloat16."""
    model = bench.model
    was = model.dtype
    torch.nn.Module.to(model, torch.bfloat16)
    prompts = bench.prompts(1, PROMPT_TOKENS)
    with (
        bench.engine(1) as plain,
        bench.engine(1, quantization="int8") as int8,
        bench.engine(1, quantization="int4") as int4,
    ):
        engines = {"bfloat16": plain, "int8": int8, "int4": int4}
        best = best_of(
            bench.repeats,
            {
                name: lambda engine=engine: ours(engine, prompts, bench.n_tokens)
                for name, engine in engines.items()
            },
        )
    torch.nn.Module.to(model, was)
    bar = 1.8 if model.device.type == "cuda" else None
    return [
        *(Row(f"batch 1, {k}", bench.n_tokens / s, "tok/s") for k, s in best.items()),
        Row("int8 / bfloat16", best["bfloat16"] / best["int8"], "x"),
        Row("int4 / bfloat16", best["bfloat16"] / best["int4"], "x", bar),
    ]


def measure_join(bench: Bench) -> list[Row]:
    """How much a joining prefill stretches the gaps of a stream that runs."""
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
    times: list[float] = []
    plain = engine._runner.step

    def timed(*args: Any) -> torch.Tensor:
        logits = plain(*args)
        times.append(time.perf_counter())
        return logits

    engine._runner.step = timed  # every step runs the stream that was there first
    running = asyncio.create_task(draw(engine, bench.prompts(1, PROMPT_TOKENS)[0], 1500))
    while len(times) < 200:  # noqa: ASYNC110  # the other thread fills it
        await asyncio.sleep(0.001)
    start = len(times)
    await draw(engine, bench.prompts(2, JOINING_TOKENS)[0], GROUP_TOKENS)
    end = len(times) - GROUP_TOKENS
    running.cancel()
    await asyncio.wait([running])
    assert end - start > 3, "the prefill was over before a step ran beside it"
    return np.diff(times), (start, end)


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


def _weight_bytes(model: Step1ForCausalLM) -> int:
    """Bytes of weights that a step reads: layers, and the audio rows of `lm_head`."""
    layers = sum(p.nbytes for p in model.model.layers.parameters())
    return layers + (AUDIO_TOKENS + 1) * model.config.hidden_size * model.dtype.itemsize


def _step_bytes(bench: Bench) -> int:
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
    torch.manual_seed(0)
    with torch.device(options.device):
        torch.set_default_dtype(dtype)
        model = Step1ForCausalLM(config)
        torch.set_default_dtype(torch.float32)
        for name, parameter in model.named_parameters():
            if not name.endswith("norm.weight"):
                torch.nn.init.normal_(parameter, std=0.02)
    audio_base = config.vocab_size - AUDIO_TOKENS
    return model.eval().requires_grad_(False), AudioVocabulary(audio_base, stop_id=3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("tiny", "3b", "custom"), default="tiny")
    parser.add_argument("--shape", help="custom: width,mlp,heads,groups,layers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", default="1,4,8,16,32")
    parser.add_argument("--tokens", type=int, default=200, help="drawn per stream")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prefill-chunk", type=int, default=16, help="as the serve config")
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
        prefill_chunk_tokens=options.prefill_chunk,
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
        "model": model.config.to_diff_dict(),
        "rows": [asdict(row) for row in rows],
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
