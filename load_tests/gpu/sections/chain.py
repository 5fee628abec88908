# pyright: basic
"""LLM and vocoder chained in one process, one GPU: first audio, pace and underruns by streams.

As the service chains them, without Ray and HTTP: voices are known, the LLM's prefix is cached, the
vocoder pulls tokens as they come. Streams arrive as a Poisson process, and each asks again a little
after it has heard all, so that they do not go in step.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from load_tests.bench.energy import energy_meter
from load_tests.bench.llm_engines import Bench
from load_tests.bench.report import Row, percentile
from load_tests.gpu.sections.llm import model_of, vocabulary
from load_tests.gpu.sections.section import Section
from load_tests.gpu.sections.vocoder import decoder_of, write_vocoder_files
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Sampling
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.tokens import GROUP_TOKENS
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import make_voice

MAX_BATCH = 16
FEW, QUIET_ROWS = 2, 10  # up to FEW streams the first chunk is small, as in the service
LISTENED_S = 5.0  # how long streams go on asking
PAUSE_S = 0.2  # the mean between two answers of a stream
ARRIVING_S = 2.0  # in which the streams first come
TEXT_TOKENS = 40
TEXTS = 100
WARM_UP_TOKENS = 25 * GROUP_TOKENS
MIB = 2**20


@dataclass
class Heard:
    """What all streams heard: continuity of the answers, and seconds that each took."""

    continuities: list[Continuity] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)


def measure(section: Section) -> None:
    """Fill the section."""
    torch.backends.cuda.matmul.allow_tf32 = section.is_cuda
    torch.backends.cudnn.allow_tf32 = section.is_cuda
    bench = Bench(
        model=model_of(section),
        vocabulary=vocabulary(section),
        batches=[],
        n_tokens=section.sizes.groups * GROUP_TOKENS,
        repeats=1,
        prefill_chunk_tokens=128 if section.is_cuda else 32,
        n_arrivals=0,
        is_tiny=section.sizes.is_rehearsal,
        context_tokens=section.sizes.context_tokens,
    )
    with tempfile.TemporaryDirectory() as name:
        vocoder = write_vocoder_files(section, Path(name))
        for n in reversed(section.sizes.chain_streams):
            section.part(f"{n} streams", lambda n=n: chain_rows(section, bench, vocoder, n), 12)


def chain_rows(section: Section, bench: Bench, vocoder: Path, n: int) -> Iterator[Row]:
    """n streams for some seconds."""
    meter = energy_meter(bench.model.device)
    kept_bytes = 1024 * MIB
    with (
        bench.engine(n, prefix_cache_bytes=kept_bytes, chunk_tokens=3 * GROUP_TOKENS) as engine,
        decoder_of(section, vocoder, max_batch=MAX_BATCH if n > 1 else 1) as decoder,
    ):
        chain = Chain(section, bench, engine, decoder, n)
        asyncio.run(chain.warm_up())
        before_j, started_s = meter() if meter else 0.0, time.perf_counter()
        heard = asyncio.run(chain.listen())
        took_s = time.perf_counter() - started_s
        joules = (meter() - before_j) if meter else None
        held = torch.cuda.max_memory_reserved() / 1e9 if section.is_cuda else 0.0
    firsts = [one.ttfa_s or 0.0 for one in heard.continuities]
    audio_s = sum(one.audio_s for one in heard.continuities)
    rtf = [s / one.audio_s for s, one in zip(heard.took_s, heard.continuities, strict=True)]
    yield Row(f"{n} streams: answers", len(firsts), "")
    yield Row(f"{n} streams: first audio p50", percentile(firsts, 0.5), "s")
    yield Row(f"{n} streams: first audio p95", percentile(firsts, 0.95), "s")
    yield Row(f"{n} streams: RTF p50", percentile(rtf, 0.5), "")
    yield Row(f"{n} streams: audio seconds a second", audio_s / took_s, "", better="higher")
    yield Row(f"{n} streams: underruns", sum(one.underruns for one in heard.continuities), "")
    yield Row(f"{n} streams: device memory", held, "GB")
    if joules is not None:
        yield Row(f"{n} streams: energy", joules / audio_s, "J/s of audio")


class Chain:
    """n streams on one engine and one decoder."""

    def __init__(
        self, section: Section, bench: Bench, engine: Engine, decoder: StepWaveDecoder, n: int
    ) -> None:
        self._bench, self._engine, self._decoder, self._n = bench, engine, decoder, n
        n_voices = section.sizes.known_voices
        self._voices = [make_voice(section.sizes.prompt_groups, i) for i in range(n_voices)]
        prefixes = bench.prompts(n_voices, section.sizes.prefix_tokens)
        for prefix in prefixes:
            prefix[-1] = bench.vocabulary.stop_id
        texts = bench.prompts(TEXTS, TEXT_TOKENS)
        self._prompts = [prefixes[i % n_voices] + text for i, text in enumerate(texts)]
        self._first_rows = QUIET_ROWS if n <= FEW else None
        self._listened_s = 1.0 if section.sizes.is_rehearsal else LISTENED_S

    async def warm_up(self) -> None:
        """Every voice's prefix, and the shapes of chunks."""
        n_voices, heard = len(self._voices), Heard()
        for start in range(0, max(n_voices, self._n), self._n):
            turn = range(start, start + self._n)
            answers = (self._answer(i % n_voices, i, heard, WARM_UP_TOKENS) for i in turn)
            await asyncio.gather(*answers)

    async def listen(self) -> Heard:
        """All streams until their time is up and the last answers are heard."""
        heard = Heard()
        ends_s = time.perf_counter() + self._listened_s
        gaps_s = np.random.default_rng(self._n).exponential(ARRIVING_S / self._n, self._n)
        arrivals_s = np.cumsum(gaps_s) - gaps_s[0]
        await asyncio.gather(
            *(self._stream(i, float(at_s), ends_s, heard) for i, at_s in enumerate(arrivals_s))
        )
        return heard

    async def _stream(self, index: int, wait_s: float, ends_s: float, heard: Heard) -> None:
        await asyncio.sleep(wait_s)
        turn, pauses = 0, np.random.default_rng(1000 + index)
        while time.perf_counter() < ends_s or not turn:
            await self._answer(index + turn * self._n, 1000 * turn + index, heard)
            turn += 1
            await asyncio.sleep(pauses.exponential(PAUSE_S))

    async def _answer(
        self, number: int, seed: int, heard: Heard, n_tokens: int | None = None
    ) -> None:
        prompt = self._prompts[number % len(self._prompts)]
        voice = self._voices[number % len(self._prompts) % len(self._voices)]
        started_s = time.perf_counter()
        n_tokens = n_tokens or self._bench.n_tokens
        sampling = Sampling(seed=seed, max_tokens=n_tokens)
        tokens = self._engine.stream(np.array(prompt, np.int32), sampling)
        meter = PlaybackMeter(started_s)
        async for chunk in self._decoder.stream(tokens, voice, self._first_rows):
            meter.sent(len(chunk.samples) / OUTPUT_SAMPLE_RATE_HZ, time.perf_counter())
        heard.continuities.append(meter.continuity())
        heard.took_s.append(time.perf_counter() - started_s)
