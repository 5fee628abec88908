"""The vocoder under measurement: streaming, batches, live streams, Euler steps.

Comparisons are ratios within one run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import torch

from load_tests.bench.report import Row, median_s
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, TokenChunk, VoicePrompt
from pipeline.stepaudio import tokens
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import make_ids, make_voice, token_stream

UTTERANCE_GROUPS = 80  # 9.6 s
PROMPT_GROUPS = 50  # 6 s
BATCH = 8
ROUNDS = 3
STEPS = (10, 6, 4)
QUIET_ROWS = 10  # vocoder.quiet_first_rows

Job = tuple[np.ndarray, VoicePrompt]


def measure_streaming(
    decoder: StepWaveDecoder, device: str, n_groups: int, n_prompt: int, repeats: int
) -> list[Row]:
    """Compute of a stream whose tokens are all there, against the same utterance at once."""
    ids, voice = make_ids(n_groups), make_voice(n_prompt)
    audio_s = n_groups * 0.12

    async def drain() -> None:
        async for _ in decoder.stream(token_stream(ids, n_groups), voice):
            pass

    async def first_piece() -> None:
        stream = decoder.stream(token_stream(ids, n_groups), voice)
        await anext(stream)
        await stream.aclose()

    offline_s = median_s(lambda: decoder.decode(ids, voice), repeats)
    stream_s = median_s(lambda: asyncio.run(drain()), repeats)
    first_s = median_s(lambda: asyncio.run(first_piece()), repeats)
    bar = 0.02 if device != "cpu" else None
    return [
        Row(
            f"offline RTF, {audio_s:g} s of audio, {n_prompt * 0.12:g} s prompt",
            offline_s / audio_s,
            "",
            bar,
        ),
        Row("streaming RTF, the same", stream_s / audio_s, ""),
        Row("streaming compute against offline", stream_s / offline_s, "x", 2.5),
        Row("first piece, all tokens there", first_s * 1e3, "ms"),
    ]


def measure_batch(decoder: StepWaveDecoder) -> list[Row]:
    """Eight utterances of mixed lengths at once against one after another."""
    jobs = [(make_ids(20 + 5 * i, i), make_voice(20 + 4 * i, i)) for i in range(BATCH)]
    alone_s = median_s(lambda: [decoder.decode(*job) for job in jobs], 3)
    together_s = median_s(lambda: decoder.decode_batch(jobs), 3)
    return [Row("8 singles against a batch of 8, mixed lengths", alone_s / together_s, "x")]


def measure_stream_batches(vocoder: Path, device: str) -> list[Row]:
    """Eight streams at once: chunks one by one against chunks of several streams together."""
    took_s = {}
    jobs = [(make_ids(40, i), make_voice(30 + i, i)) for i in range(BATCH)]
    for max_batch in (1, BATCH):
        decoder = StepWaveDecoder(vocoder, device, threads=1, max_batch=max_batch)

        async def drain(
            ids: np.ndarray, voice: VoicePrompt, decoder: StepWaveDecoder = decoder
        ) -> None:
            async for _ in decoder.stream(token_stream(ids, 3), voice):
                pass

        async def everyone(drain: object = drain) -> None:
            await asyncio.gather(*(drain(*job) for job in jobs))  # type: ignore[operator]

        took_s[max_batch] = median_s(lambda run=everyone: asyncio.run(run()), 3)
        decoder.close()
    return [Row("8 streams: one by one against batched chunks", took_s[1] / took_s[BATCH], "x")]


def measure_prompt_memory(vocoder: Path, device: str) -> list[Row]:
    """First piece of the same request again, with and without the voice kept."""
    ids, voice = make_ids(UTTERANCE_GROUPS), make_voice(PROMPT_GROUPS)
    took_s = []
    for kept_bytes in (0, 2**33):
        decoder = StepWaveDecoder(vocoder, device, threads=1, prompt_memory_bytes=kept_bytes)

        async def first_piece(decoder: StepWaveDecoder = decoder) -> None:
            stream = decoder.stream(all_at_once(ids), voice)
            await anext(stream)
            await stream.aclose()

        took_s.append(median_s(lambda run=first_piece: asyncio.run(run()), 5))
        decoder.close()
    return [Row("first piece: voice new against kept, same first rows", took_s[0] / took_s[1], "x")]


async def paced(ids: np.ndarray, tokens_per_s: float) -> AsyncIterator[TokenChunk]:
    """Chunks of fifteen tokens as a language model of that speed would send them."""
    size, started_s = 3 * tokens.GROUP_TOKENS, time.perf_counter()
    for end in range(size, len(ids) + size, size):
        due_s = started_s + min(end, len(ids)) / tokens_per_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        yield TokenChunk(ids[end - size : end], last=end >= len(ids))


def measure_live(
    vocoder: Path, device: str, n_streams: int, tokens_per_s: float, bar_s: float
) -> list[Row]:
    """Streams of new voices at once, with tokens that come as a language model sends them."""
    max_batch = BATCH if device != "cpu" else 1
    decoder = StepWaveDecoder(vocoder, device, threads=1, max_batch=max_batch)
    first_rows = QUIET_ROWS if n_streams == 1 else None  # as the service chooses

    async def listened(seed: int) -> Continuity:
        ids, voice = make_ids(UTTERANCE_GROUPS, seed), make_voice(PROMPT_GROUPS, seed)
        meter = PlaybackMeter(time.perf_counter())
        async for chunk in decoder.stream(paced(ids, tokens_per_s), voice, first_rows):
            meter.sent(len(chunk.samples) / OUTPUT_SAMPLE_RATE_HZ, time.perf_counter())
        return meter.continuity()

    async def everyone(seed: int) -> list[Continuity]:
        return await asyncio.gather(*(listened(seed + i) for i in range(n_streams)))

    asyncio.run(everyone(0))
    heard = [one for turn in range(1, ROUNDS + 1) for one in asyncio.run(everyone(turn * 100))]
    decoder.close()
    name = f"{n_streams} live, {tokens_per_s:g} tokens/s each"
    is_gpu = device != "cpu"
    return [
        Row(
            f"{name}: first audio, worst",
            max(one.ttfa_s or 0.0 for one in heard),
            "s",
            bar_s if is_gpu else None,
        ),
        Row(
            f"{name}: underruns",
            sum(one.underruns for one in heard),
            "",
            0.0 if is_gpu else None,
        ),
        Row(f"{name}: longest gap", max(one.longest_gap_s for one in heard), "s"),
    ]


async def all_at_once(ids: np.ndarray) -> AsyncIterator[TokenChunk]:
    yield TokenChunk(ids, last=True)


def measure_steps(vocoder: Path, device: str, jobs: list[Job]) -> list[Row]:
    """Cost and mel-L1 of fewer Euler steps, against ten, on whole utterances."""
    mels: dict[int, list[torch.Tensor]] = {}
    took_s: dict[int, float] = {}
    for steps in STEPS:
        decoder = StepWaveDecoder(vocoder, device, threads=1, steps=steps)
        seen: list[torch.Tensor] = []
        hook = decoder._model.hift.f0_predictor.register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append(args[0])  # pyright: ignore[reportAttributeAccessIssue] no kwargs
        )
        for job in jobs:
            decoder.decode(*job)
        hook.remove()
        mels[steps] = seen
        took_s[steps] = median_s(lambda d=decoder: d.decode(*jobs[0]), 3)
        decoder.close()
    level = _mean([mel.abs() for mel in mels[10]])
    rows = []
    for steps in STEPS[1:]:
        pairs = zip(mels[steps], mels[10], strict=True)
        l1 = _mean([(few - ten).abs() for few, ten in pairs])
        rows.append(Row(f"{steps} steps against 10: mel-L1 (mean |mel| {level:.3f})", l1, "ln"))
        rows.append(Row(f"{steps} steps against 10: time", took_s[steps] / took_s[10], "x"))
    return rows


def _mean(mels: list[torch.Tensor]) -> float:
    """Over all frames of mels of any lengths."""
    return float(torch.cat([mel.flatten() for mel in mels]).mean())
