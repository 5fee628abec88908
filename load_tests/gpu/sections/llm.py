# pyright: basic
"""The LLM at the 3B shape with random weights: rates, floors, formats, first token, kernels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from load_tests.bench.energy import energy_meter
from load_tests.bench.llm import draw, first_token, measure_join, ours
from load_tests.bench.llm_engines import Bench, random_step1
from load_tests.bench.report import Row
from load_tests.gpu.sections.device import copy_row, synchronize, timed_s
from load_tests.gpu.sections.profile import kernel_table
from load_tests.gpu.sections.section import Section
from pipeline.contracts import Sampling
from pipeline.stepaudio.llm.engine.engine import AudioVocabulary, Engine
from pipeline.stepaudio.llm.packed import release_held
from pipeline.stepaudio.llm.quantization import quantize_int4
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM
from pipeline.stepaudio.tokens import AUDIO_TOKENS, GROUP_TOKENS

STEPS_TIMED = 30
FORMAT_BATCHES = {"int4": (1, 8, 32)}  # the others: 1
PREFIX_TURNS = 6
AWQ = "int4 as AWQ checkpoints hold it"


def measure(section: Section) -> None:
    """Fill the section."""
    bench = Bench(
        model=model_of(section),
        vocabulary=vocabulary(section),
        batches=list(section.sizes.batches),
        n_tokens=section.sizes.tokens,
        repeats=section.sizes.repeats,
        prefill_chunk_tokens=128 if section.is_cuda else 32,  # as the serve configs
        n_arrivals=0,
        is_tiny=section.sizes.is_rehearsal,
        context_tokens=section.sizes.context_tokens,
    )
    copied = copy_row(section).value * 1e9
    section.add(Row("copy bandwidth", copied / 1e9, "GB/s", better="higher"))
    section.part("agreement", lambda: agreement_rows(section, bench), 8)
    for n in bench.batches:
        section.part(f"batch {n}", lambda n=n: decode_rows(section, bench, n, copied), 5)
    section.part("prefix", lambda: prefix_rows(section, bench), 5)
    section.part("join", lambda: join_rows(bench, section), 6)
    for name in ("int4", AWQ, "int8"):
        section.part(name, lambda name=name: format_rows(section, bench, name), 5)
    section.part("profile", lambda: profile_steps(section, bench), 10)
    section.part("without graphs and fused kernels", lambda: plain_rows(section, bench), 10)


def model_of(section: Section) -> Step1ForCausalLM:
    """Random weights at the section's shape: bfloat16 on a GPU, float32 on a CPU."""
    dtype = torch.bfloat16 if section.is_cuda else torch.float32
    return random_step1(Step1Config(**section.sizes.llm), section.device, dtype)


def vocabulary(section: Section) -> AudioVocabulary:
    """The audio tokens are the last ones, as in the released vocabulary."""
    n_tokens = Step1Config(**section.sizes.llm).vocab_size
    return AudioVocabulary(n_tokens - AUDIO_TOKENS, stop_id=3)


def decode_rows(section: Section, bench: Bench, n: int, copied: float) -> Iterator[Row]:
    """The whole engine, and the model's step alone, with n streams."""
    prompts = bench.prompts(n, section.sizes.prompt_tokens)
    meter = energy_meter(bench.model.device)
    with bench.engine(n) as engine:
        whole_s = min(ours(engine, prompts, bench.n_tokens) for _ in range(bench.repeats + 1))
        first_s = min(ours(engine, prompts, GROUP_TOKENS) for _ in range(bench.repeats + 1))
        before_j = meter() if meter else 0.0
        if meter:
            ours(engine, prompts, bench.n_tokens)
            yield Row(f"batch {n}: energy", (meter() - before_j) / n / bench.n_tokens, "J/tok")
        replay_s = step_alone_s(engine, section, n)
        read_bytes = engine.gauges().weight_bytes - bench.model.model.embed_tokens.weight.nbytes
        read_bytes += n * engine._runner.token_bytes * kept_tokens(section)
        recording_s = engine.gauges().recording_s
    step_s = (whole_s - first_s) / (bench.n_tokens - GROUP_TOKENS)
    floor_s = read_bytes / copied
    yield Row(f"batch {n}: rate", n / step_s, "tok/s", better="higher")
    yield Row(f"batch {n}: step", step_s * 1e3, "ms")
    yield Row(f"batch {n}: replay", replay_s * 1e3, "ms")
    yield Row(f"batch {n}: floor", floor_s * 1e3, "ms")
    bar = 80.0 if section.is_cuda and n == 1 else None
    share = 100 * floor_s / step_s
    yield Row(f"batch {n}: share of the bandwidth floor", share, "%", bar, "higher")
    alone = 100 * floor_s / replay_s
    yield Row(f"batch {n}: share of the floor, model alone", alone, "%", better="higher")
    yield Row(f"batch {n}: to the first group", first_s * 1e3, "ms")
    yield Row(f"batch {n}: recording graphs", recording_s, "s")
    rates = {r.what: r.value for r in section.rows}
    least = bench.batches[0]
    if (alone_rate := rates.get(f"batch {least}: rate")) and n > least:
        bar = 20.0 if section.is_cuda and (least, n) == (1, 32) else None
        yield Row(
            f"batch {n}: rate over batch {least}", n / step_s / alone_rate, "x", bar, "higher"
        )


def kept_tokens(section: Section) -> int:
    """Tokens in the cache of a stream half-way."""
    return section.sizes.prompt_tokens + section.sizes.tokens // 2


def step_alone_s(engine: Engine, section: Section, n: int) -> float:
    """One step of the model, no sampling, nothing else."""
    runner, longest = engine._runner, kept_tokens(section)
    window = runner.window(0, n - 1)
    tokens, positions = [5] * len(window), [longest] * len(window)

    def step() -> None:
        runner.step(window, tokens, positions, longest)

    return timed_s(step, section.device, STEPS_TIMED)


def prefix_rows(section: Section, bench: Bench) -> Iterator[Row]:
    """The first token after a prefix that was seen before, with reuse and without."""
    prefix = bench.prompts(1, section.sizes.prefix_tokens)[0]
    prefix[-1] = bench.vocabulary.stop_id
    texts = iter(bench.prompts(1000, 40))
    best = {}
    for kept_bytes, name in ((2**30, "cached prefix"), (0, "no reuse")):
        with bench.engine(1, prefix_cache_bytes=kept_bytes) as engine:
            turns = [first_token(engine, prefix + next(texts)) for _ in range(PREFIX_TURNS)]
        best[name] = sorted(turns[1:])[len(turns[1:]) // 2]
    bar = 60.0 if section.is_cuda else None
    yield Row("first token, cached prefix", best["cached prefix"] * 1e3, "ms", bar)
    yield Row("first token, no reuse", best["no reuse"] * 1e3, "ms")
    with bench.engine(1) as engine:
        runner, n = engine._runner, section.sizes.prefix_tokens
        ids = bench.prompts(1, n)[0]
        took_s = timed_s(lambda: runner.prefill(0, np.array(ids, np.int32), 0), section.device, 5)
        yield Row(f"prefill of {n} tokens at once", took_s * 1e3, "ms")
        saved = runner.saved(0, n)
        yield Row("a prefix's keys and values", saved.nbytes / 1e6, "MB")
        took_s = timed_s(lambda: runner.restore(0, saved), section.device, 10)
        yield Row("prefix put back", took_s * 1e3, "ms")


def join_rows(bench: Bench, section: Section) -> list[Row]:
    """Gaps of a running stream while a long prompt joins."""
    if section.sizes.is_rehearsal:  # its context is too short for the join that is measured
        return []
    return [Row(row.what, row.value, row.unit, row.bar, "lower") for row in measure_join(bench)]


@contextmanager
def held_in_4_bits(model: Step1ForCausalLM) -> Iterator[None]:
    """The layers' weights as a pack-quantized checkpoint gives them."""
    projections = [
        module
        for layer in model.model.layers
        for module in layer.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    for projection in projections:
        projection.int4_weight = quantize_int4(projection.weight)  # pyright: ignore[reportArgumentType] as packed.py holds it
    try:
        yield
    finally:
        for projection in projections:
            release_held(projection)


def format_rows(section: Section, bench: Bench, name: str) -> Iterator[Row]:
    """Rates with quantised weights; the model is bfloat16, on a CPU too."""
    was = bench.model.dtype
    bench.model.to(torch.bfloat16)
    try:
        if name == AWQ:
            with held_in_4_bits(bench.model):
                yield from _format_rows(section, bench, name, "none")
        else:
            yield from _format_rows(section, bench, name, name)
    finally:
        bench.model.to(was)


def _format_rows(section: Section, bench: Bench, name: str, quantization: str) -> Iterator[Row]:
    rates = {r.what: r.value for r in section.rows}
    for n in FORMAT_BATCHES.get(name, (1,)) if section.is_cuda else (1,):
        prompts = bench.prompts(n, section.sizes.prompt_tokens)
        started_s = time.perf_counter()
        with bench.engine(n, quantization=quantization) as engine:
            synchronize(section.device)
            packed_s = time.perf_counter() - started_s
            replay_s = step_alone_s(engine, section, n)
            whole_s = min(ours(engine, prompts, bench.n_tokens) for _ in range(2))
            first_s = min(ours(engine, prompts, GROUP_TOKENS) for _ in range(2))
            held = engine.gauges().weight_bytes
        rate = n * (bench.n_tokens - GROUP_TOKENS) / (whole_s - first_s)
        yield Row(f"{name}, batch {n}: rate", rate, "tok/s", better="higher")
        yield Row(f"{name}, batch {n}: replay", replay_s * 1e3, "ms")
        if plain := rates.get(f"batch {n}: rate"):
            bar = 1.8 if section.is_cuda and n == 1 and name == "int4" else None
            yield Row(f"{name}, batch {n}: over bfloat16", rate / plain, "x", bar, "higher")
        if n == 1:
            yield Row(f"{name}: weights held", held / 1e9, "GB")
            yield Row(f"{name}: packed and recorded in", packed_s, "s")
        section.let_go()


def profile_steps(section: Section, bench: Bench) -> None:
    """Kernels of one step at batch 1 and at a large one, of a draw, and of a prefill."""
    for n in sorted({1, min(32, bench.batches[-1])}):
        with bench.engine(n) as engine:
            _profile_step(section, bench, engine, n)
        section.let_go()


def _profile_step(section: Section, bench: Bench, engine: Engine, n: int) -> None:
    runner, longest = engine._runner, kept_tokens(section)
    window = runner.window(0, n - 1)
    tokens, positions = [5] * len(window), [longest] * len(window)
    ids = np.array(bench.prompts(1, 128)[0], np.int32)

    def step() -> None:
        runner.step(window, tokens, positions, longest)

    section.add_table(f"one step, batch {n}", kernel_table(step, section.device))
    if n == 1:
        table = kernel_table(lambda: runner.prefill(0, ids, 0), section.device)
        section.add_table("prefill of 128 tokens", table)
        section.add_table("whole engine, 20 tokens", _drawn(section, engine, bench))


def _drawn(section: Section, engine: Engine, bench: Bench) -> list[dict[str, object]]:
    prompt = bench.prompts(1, 20)[0]
    return kernel_table(
        lambda: asyncio.run(draw(engine, prompt, 4 * GROUP_TOKENS)), section.device, 1
    )


def plain_rows(section: Section, bench: Bench) -> Iterator[Row]:
    """The same with less: separate kernels in graphs, then each launched by itself."""
    for n in sorted({1, min(32, bench.batches[-1])}):
        prompts = bench.prompts(n, section.sizes.prompt_tokens)
        with bench.engine(n, fused=False) as engine:
            replay_s = step_alone_s(engine, section, n)
            whole_s = min(ours(engine, prompts, bench.n_tokens) for _ in range(2))
            first_s = min(ours(engine, prompts, GROUP_TOKENS) for _ in range(2))
            engine._runner._graphs = engine._runner._prefill_graphs = None
            eager_s = step_alone_s(engine, section, n)
        rate = n * (bench.n_tokens - GROUP_TOKENS) / (whole_s - first_s)
        yield Row(f"batch {n}: rate, separate kernels", rate, "tok/s", better="higher")
        yield Row(f"batch {n}: replay, separate kernels", replay_s * 1e3, "ms")
        yield Row(f"batch {n}: step without graphs", eager_s * 1e3, "ms")
        section.let_go()


def agreement_rows(section: Section, bench: Bench) -> Iterator[Row]:
    """Fused kernels and recorded prefill against the plain path: logits, and greedy answers."""
    n, n_prompt = 4, 300
    prompts = [np.array(p, np.int32) for p in bench.prompts(n, n_prompt)]
    logits, answers = [], []
    for fused in (False, None):
        with bench.engine(n, fused=fused) as engine:
            runner, window = engine._runner, engine._runner.window(0, n - 1)
            if fused is False:
                runner._prefill_graphs = None
            for slot, prompt in enumerate(prompts):
                for start in range(0, n_prompt - 1, 100):
                    runner.prefill(slot, prompt[start : min(start + 100, n_prompt - 1)], start)
            last = [int(prompt[-1]) for prompt in prompts]
            stepped = runner.step(window, last, [n_prompt - 1] * n, n_prompt - 1)
            logits.append(stepped.double().cpu())
            answers.append(asyncio.run(_greedy(engine, prompts[0], bench.n_tokens)))
        section.let_go()
    truth = _float32_logits(bench, prompts)
    errors = [float((found - truth).norm() / truth.norm()) for found in logits]
    yield Row("logits, separate kernels against float32: relative error", errors[0], "")
    most = 1.5 * errors[0]  # rounding elsewhere is allowed, more of it is not
    yield Row("logits, fused kernels against float32: relative error", errors[1], "", most)
    same = np.mean(answers[0] == answers[1])
    yield Row("greedy tokens alike, bfloat16 random weights", 100 * float(same), "%")


@torch.inference_mode()
def _float32_logits(bench: Bench, prompts: list[np.ndarray]) -> torch.Tensor:
    """Of the plain form, float64 (n, audio + stop), behind each prompt."""
    model, vocabulary = bench.model, bench.vocabulary
    was, first = model.dtype, vocabulary.audio_base
    model.to(torch.float32)
    hidden = [model.model(torch.from_numpy(p).long().to(model.device)[None]) for p in prompts]
    logits = model.lm_head(torch.cat([h[:, -1] for h in hidden])).double().cpu()
    model.to(was)
    stop = vocabulary.stop_id
    return torch.cat([logits[:, first : first + AUDIO_TOKENS], logits[:, [stop]]], 1)


async def _greedy(engine: Engine, prompt: np.ndarray, n_tokens: int) -> np.ndarray:
    sampling = Sampling(temperature=0, max_tokens=n_tokens)
    return np.concatenate([chunk.ids async for chunk in engine.stream(prompt, sampling)])
