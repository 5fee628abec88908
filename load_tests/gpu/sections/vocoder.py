# pyright: basic
"""The vocoder at full shape: whole, streamed, many streams, batches, Euler steps, kernels."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from load_tests.bench.report import Row, percentile
from load_tests.bench.vocoder_streams import all_at_once, measure_steps, paced
from load_tests.full_size.vocoder import write_full_vocoder
from load_tests.gpu.sections.device import timed_s
from load_tests.gpu.sections.profile import kernel_table
from load_tests.gpu.sections.section import Section
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.contracts import GROUP_S, OUTPUT_SAMPLE_RATE_HZ
from pipeline.marks.marker import Marker
from pipeline.marks.network import Encoder
from pipeline.stepaudio.vocoder.model import VocoderModel
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import make_ids, make_voice, write_vocoder

MAX_BATCH = 16  # streams whose chunks are computed together, as the service has it
KEPT_BYTES = 2**33  # voices' states: 0.2 GB of each
LIVE_TOKENS_PER_S = 200.0
STEPS_TIMED = 5


def measure(section: Section) -> None:
    """Fill the section."""
    torch.backends.cuda.matmul.allow_tf32 = section.is_cuda  # as the replica has it
    torch.backends.cudnn.allow_tf32 = section.is_cuda
    with tempfile.TemporaryDirectory() as name:
        vocoder = write_vocoder_files(section, Path(name))
        section.part("one stream", lambda: one_stream_rows(section, vocoder), 6)
        section.part("agreement", lambda: agreement_rows(section, vocoder), 12)
        settings = {"max_batch": MAX_BATCH, "prompt_memory_bytes": KEPT_BYTES}
        with decoder_of(section, vocoder, **settings) as decoder:
            for n in section.sizes.streams:
                section.part(f"{n} streams", lambda n=n: streams_rows(section, decoder, n), 4)
        section.part("marks", lambda: marks_rows(section, vocoder), 10)
        section.part("profile", lambda: profile_chunk(section, vocoder), 8)
        section.part("steps", lambda: steps_rows(section, vocoder), 10)


def write_vocoder_files(section: Section, directory: Path) -> Path:
    """A vocoder directory of the section's sizes, random weights."""
    return (write_full_vocoder if section.sizes.voices == "full" else write_vocoder)(directory)


@contextmanager
def decoder_of(section: Section, vocoder: Path, **options: Any) -> Iterator[StepWaveDecoder]:
    """A decoder as the service has it."""
    threads = 2 if section.is_cuda else 1
    decoder = StepWaveDecoder(vocoder, section.device, threads=threads, **options)
    try:
        yield decoder
    finally:
        decoder.close()


def one_stream_rows(
    section: Section, vocoder: Path, name: str = "", repeats: int = 4, **options: Any
) -> Iterator[Row]:
    """Whole, streamed, and the first piece, with all tokens there."""
    sizes = section.sizes
    ids, voice = make_ids(sizes.groups), make_voice(sizes.prompt_groups)
    audio_s = sizes.groups * GROUP_S
    with decoder_of(section, vocoder, **options) as decoder:

        async def drain(n_pieces: int | None = None) -> None:
            stream = decoder.stream(all_at_once(ids), voice)
            async for _ in stream:
                n_pieces = None if n_pieces is None else n_pieces - 1
                if n_pieces == 0:
                    break
            await stream.aclose()

        whole_s = best_s(lambda: decoder.decode(ids, voice), repeats)
        stream_s = best_s(lambda: asyncio.run(drain()), repeats)
        first_s = best_s(lambda: asyncio.run(drain(1)), repeats)
    bar = 0.02 if section.is_cuda and not options else None
    yield Row(f"offline RTF{name}", whole_s / audio_s, "", bar)
    yield Row(f"streaming RTF{name}", stream_s / audio_s, "")
    yield Row(f"streaming against offline{name}", stream_s / whole_s, "x", None if options else 2.5)
    yield Row(f"first piece, all tokens there{name}", first_s * 1e3, "ms")


def agreement_rows(section: Section, vocoder: Path) -> Iterator[Row]:
    """Recorded steps against steps launched one by one: the audio, and what they cost."""
    sizes = section.sizes
    ids, voice = make_ids(sizes.groups), make_voice(sizes.prompt_groups)
    heard: dict[str, list[np.ndarray]] = {}
    for name, options in (("recorded", {}), ("anew", {}), ("plain", {"graphs": False})):
        with decoder_of(section, vocoder, **options) as decoder:

            async def all_of(decoder: StepWaveDecoder = decoder) -> np.ndarray:
                pieces = decoder.stream(all_at_once(ids), voice)
                return np.concatenate([piece.samples async for piece in pieces])

            heard[name] = [asyncio.run(all_of()).astype(np.float64) for _ in range(2)]
    recorded, plain = heard["recorded"], heard["plain"]
    error = np.linalg.norm(plain[0] - recorded[0]) / np.linalg.norm(plain[0])
    yield Row("samples, recorded against plain: relative error", float(error), "")
    for name, pair in (
        ("recorded, twice", recorded),
        ("recorded, in a new decoder", [recorded[1], heard["anew"][0]]),
        ("plain, twice", plain),
    ):
        differ = np.flatnonzero(pair[0] != pair[1])
        yield Row(f"samples that differ, {name}", len(differ), "", 0)
        if len(differ):
            largest = float(np.abs(pair[0] - pair[1]).max())
            section.facts[f"where they differ, {name}"] = [int(differ[0]), int(differ[-1]), largest]
    yield from one_stream_rows(section, vocoder, ", plain", 1, graphs=False)


def best_s(work: Any, repeats: int) -> float:
    """Seconds of the best of some, after one that warms up."""
    took_s = []
    for _ in range(repeats + 1):
        started_s = time.perf_counter()
        work()
        took_s.append(time.perf_counter() - started_s)
    return min(took_s[1:])


def streams_rows(section: Section, decoder: StepWaveDecoder, n: int) -> Iterator[Row]:
    """n streams of known voices as fast as they go, then of new ones with tokens as they come."""
    sizes = section.sizes
    name = f"{n} streams"
    audio_s = n * sizes.groups * GROUP_S

    async def listened(seed: int, tokens_per_s: float) -> Continuity:
        ids, voice = make_ids(sizes.groups, seed), make_voice(sizes.prompt_groups, seed)
        meter = PlaybackMeter(time.perf_counter())
        async for chunk in decoder.stream(paced(ids, tokens_per_s), voice):
            meter.sent(len(chunk.samples) / OUTPUT_SAMPLE_RATE_HZ, time.perf_counter())
        return meter.continuity()

    def everyone(tokens_per_s: float, seed: int = 0) -> list[Continuity]:
        async def together() -> list[Continuity]:
            return await asyncio.gather(*(listened(seed + i, tokens_per_s) for i in range(n)))

        return asyncio.run(together())

    everyone(1e6)
    started_s = time.perf_counter()
    everyone(1e6)
    took_s = time.perf_counter() - started_s
    yield Row(f"{name}: audio seconds a second", audio_s / took_s, "", better="higher")
    live = everyone(LIVE_TOKENS_PER_S, 100)
    firsts = [one.ttfa_s or 0.0 for one in live]
    yield Row(f"{name} live: first audio, p50", percentile(firsts, 0.5), "s")
    yield Row(f"{name} live: first audio, worst", max(firsts), "s")
    yield Row(f"{name} live: underruns", sum(one.underruns for one in live), "")


def marks_rows(section: Section, vocoder: Path) -> Iterator[Row]:
    """What a stream's watermark costs, its network's weights random as all others."""
    ids, voice = make_ids(section.sizes.groups), make_voice(section.sizes.prompt_groups)
    heard: list[np.ndarray] = []
    took_s: list[float] = []
    with decoder_of(section, vocoder) as decoder:
        decoder._marker = Marker(Encoder(), torch.device(section.device))

        async def drain(is_marked: bool) -> np.ndarray:
            pieces = decoder.stream(all_at_once(ids), voice, is_marked=is_marked)
            return np.concatenate([piece.samples async for piece in pieces])

        for is_marked in (False, True):
            heard.append(asyncio.run(drain(is_marked)))
            took_s.append(best_s(lambda m=is_marked: asyncio.run(drain(m)), 2))
    yield Row("streaming RTF, marked", took_s[1] / (section.sizes.groups * GROUP_S), "")
    yield Row("streaming, marked over not", took_s[1] / took_s[0], "x")
    yield Row("samples that a mark changes", float(np.mean(heard[1] != heard[0]) * 100), "%")


def profile_chunk(section: Section, vocoder: Path) -> Iterator[Row]:
    """Kernels of a whole stream as it is served, and launched one by one: pass, chunk, HiFT."""
    ids = make_ids(section.sizes.groups)
    with decoder_of(section, vocoder) as decoder:
        prompt_voice = make_voice(section.sizes.prompt_groups)

        async def drain() -> None:
            async for _ in decoder.stream(all_at_once(ids), prompt_voice):
                pass

        table = kernel_table(lambda: asyncio.run(drain()), section.device, 1)
        section.add_table("a stream as served", table)
    model = VocoderModel.load(vocoder, torch.device(section.device), 10, 0)
    voice = model.prompt_tensors(make_voice(section.sizes.prompt_groups))
    rows = model.rows(ids)
    flow, ahead = model.flow, model.flow.lookahead_rows

    def prompt() -> Any:
        return flow.setup_cache(
            voice.rows, rows[:, :ahead], voice.mel, voice.embedding, model.schedule
        )

    with torch.inference_mode():
        cache = prompt()

        def chunk() -> Any:
            n = min(48, rows.shape[1] - ahead)
            return flow.inference_chunk(
                rows[:, :n], rows[:, n : n + ahead], voice.embedding, cache, model.schedule, 96
            )

        mel = chunk()[0]
        works = {"prompt": prompt, "chunk": chunk, "HiFT of a chunk": lambda: model._wave(mel)}
        for name, work in works.items():
            yield Row(f"plain {name}", timed_s(work, section.device, STEPS_TIMED) * 1e3, "ms")
            section.add_table(name, kernel_table(work, section.device, 1))


def steps_rows(section: Section, vocoder: Path) -> Iterator[Row]:
    """Time and mel distance of fewer Euler steps."""
    jobs = [(make_ids(min(40, section.sizes.groups)), make_voice(20))]
    rows = measure_steps(vocoder, section.device, jobs)
    yield from (Row(row.what, float(np.float64(row.value)), row.unit) for row in rows)
