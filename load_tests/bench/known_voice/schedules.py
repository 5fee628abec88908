"""Chunks and their listeners in virtual time: which sizes, and whose chunk goes first.

    python -m load_tests.bench.known_voice.schedules [--cpu-ms CHUNK ROW STEP STREAM] [--json FILE]

What a chunk of the vocoder and a step of the language model cost is measured here in CPU seconds,
or given: other work on the cores and their caches is in these, too. Then one of each serves
listeners who play what comes. Chunks go first that came first ("in turn") or, as the worker does
it, that are wanted first. `x1.3` is how many times longer everything takes than its CPU seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from load_tests.bench.beside_measures import PROMPT_IDS, Tree
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.contracts import Int32Array, Sampling, TokenChunk
from pipeline.serving.listener import BEGIN_S
from pipeline.stepaudio.llm.engine.slot import BEGINNING_TOKENS
from pipeline.stepaudio.tokens import GROUP_ROWS, GROUP_TOKENS
from pipeline.stepaudio.vocoder.hift.stream import HELD_FRAMES
from pipeline.stepaudio.vocoder.schedule import chunk_schedule
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder

ROW_S = 0.04
AHEAD_ROWS, HELD_ROWS = 3, HELD_FRAMES // 2
CHUNK_TOKENS = 15  # llm.chunk_tokens
PREFILL_S, HOP_S = 0.018, 0.004  # of a new text behind a kept prefix; between two replicas
ANSWER_ROWS = (80, 200)
STRETCHES = (1.0, 1.3, 1.7)
REPEATS, STREAM = 30, 20  # crowds of each kind; listeners of one that come one after another
SHIPPED, QUIET_ROWS = (18, 15, 21, 30, 48, 64), 15  # in serve_config.cpu.yaml
SCHEDULES: dict[str, tuple[int, ...]] = {
    "24, 24, 48": (24, 24, 48),
    "15, 24, 48": (15, 24, 48),
    "15, 15, 24, 48": (15, 15, 24, 48),
    "15, 15, 24, 96": (15, 15, 24, 96),
    "18, 15, 21, 30, 48, 64": SHIPPED,
    "the same behind 15": chunk_schedule(SHIPPED, QUIET_ROWS),
}


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds: of a chunk and of each of its rows, of a step and of each stream in it."""

    chunk_s: float
    row_s: float
    step_s: float
    stream_s: float

    def chunk(self, rows: int) -> float:
        return self.chunk_s + rows * self.row_s

    def step(self, streams: int) -> float:
        return self.step_s + streams * self.stream_s


@dataclass(slots=True, eq=False)
class Listener:
    """One answer: when its tokens are there, and how far its sound is."""

    begun_s: float
    rows: int
    sizes: list[int]
    drawn_s: list[float] = field(default_factory=list[float])
    done_rows: int = 0
    ready_s: float = 0.0
    wanted_s: float = 0.0
    meter: PlaybackMeter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = PlaybackMeter(self.begun_s)

    @property
    def tokens(self) -> int:
        return self.rows // GROUP_ROWS * GROUP_TOKENS

    def asks(self, now_s: float) -> int:
        """Rows of the next chunk, ready when its tokens were drawn, but not before `now_s`."""
        size, left = self.sizes[0], self.rows - self.done_rows
        is_last = left < size + AHEAD_ROWS
        groups = -(-(self.done_rows + size + AHEAD_ROWS) // GROUP_ROWS)
        tokens = groups * GROUP_TOKENS
        if tokens > BEGINNING_TOKENS:
            tokens += -(tokens - BEGINNING_TOKENS) % CHUNK_TOKENS
        tokens = self.tokens if is_last else min(tokens, self.tokens)
        self.ready_s = max(now_s, self.drawn_s[tokens - 1] + HOP_S)
        dry_at_s = self.meter.dry_at_s
        self.wanted_s = self.ready_s + BEGIN_S if dry_at_s is None else dry_at_s
        return left if is_last else size

    def hears(self, rows: int, at_s: float) -> None:
        """The newest rows of a chunk are heard with the next one."""
        is_first, self.done_rows = not self.done_rows, self.done_rows + rows
        is_last = self.done_rows == self.rows
        heard = rows - HELD_ROWS * is_first + HELD_ROWS * is_last
        self.meter.sent(heard * ROW_S, at_s + HOP_S)
        if len(self.sizes) > 1:
            self.sizes.pop(0)


def draw(listeners: Sequence[Listener], costs: Costs, stretch: float) -> None:
    """The language model: a token for everyone in every step, prompts in between."""
    now_s, waiting, drawn = 0.0, sorted(listeners, key=lambda one: one.begun_s), []
    while waiting or drawn:
        if not drawn:
            now_s = max(now_s, waiting[0].begun_s)
        while waiting and waiting[0].begun_s <= now_s:
            now_s += PREFILL_S * stretch
            drawn.append(waiting.pop(0))
        now_s += costs.step(len(drawn)) * stretch
        for one in drawn:
            one.drawn_s.append(now_s)
        drawn = [one for one in drawn if len(one.drawn_s) < one.tokens]


def speak(
    listeners: Sequence[Listener], costs: Costs, stretch: float, *, is_by_want: bool
) -> list[Continuity]:
    """The vocoder's one worker; a chunk at work is not put aside."""
    draw(listeners, costs, stretch)
    asked = {one: one.asks(0.0) for one in listeners}
    now_s = 0.0
    while asked:
        now_s = max(now_s, min(one.ready_s for one in asked))
        ready = [one for one in asked if one.ready_s <= now_s]
        one = min(ready, key=lambda one: one.wanted_s if is_by_want else one.ready_s)
        rows = asked.pop(one)
        now_s += costs.chunk(rows) * stretch
        one.hears(rows, now_s)
        if one.done_rows < one.rows:
            asked[one] = one.asks(now_s)
    return [one.meter.continuity() for one in listeners]


Arrivals = Callable[[np.random.Generator], Sequence[float]]
CROWDS: dict[str, Arrivals] = {
    "4 at once": lambda times: times.uniform(0, 0.02, 4).tolist(),
    "4 within a second": lambda times: np.sort(times.uniform(0, 1, 4)).tolist(),
    "about 4 at a time": lambda times: times.exponential(5.5 / 4, STREAM).cumsum().tolist(),
    "8 at once": lambda times: times.uniform(0, 0.02, 8).tolist(),
}


def rows_of(costs: Costs) -> list[Row]:
    """Every schedule, both orders, every crowd: the same crowds for all."""
    rows: list[Row] = []
    for stretch in STRETCHES:
        for crowd, arrivals in CROWDS.items():
            for name, sizes in SCHEDULES.items():
                for is_by_want in (False, True):
                    heard: list[Continuity] = []
                    for seed in range(REPEATS):
                        random = np.random.default_rng(seed)
                        listeners = [
                            Listener(at_s, 3 * int(random.integers(*ANSWER_ROWS) // 3), [*sizes])
                            for at_s in arrivals(random)
                        ]
                        heard += speak(listeners, costs, stretch, is_by_want=is_by_want)
                    order = "wanted first" if is_by_want else "in turn"
                    first_s = [one.ttfa_s or 0.0 for one in heard]
                    what = f"x{stretch:g} {crowd}: {name}, {order}"
                    late, dry_s = percentile(first_s, 0.95), sum(one.underrun_s for one in heard)
                    underruns = sum(one.underruns for one in heard)
                    rows += [
                        Row(f"{what}: first audio, p50", statistics.median(first_s), "s"),
                        Row(f"{what}: first audio, p95", late, "s"),
                        Row(f"{what}: underruns of 100", 100 * underruns / len(heard), ""),
                        Row(f"{what}: seconds dry of 100", 100 * dry_s / len(heard), "s"),
                    ]
    return rows


def measured() -> Costs:
    """On one thread, of the embedded model, in a known voice of some 5 s."""
    torch.set_num_threads(1)
    tree = Tree()
    few, many = (_chunk_cpu_s(tree, rows) for rows in (12, 48))
    alone, four = (_step_cpu_s(tree, streams) for streams in (1, 4))
    row_s, stream_s = (many - few) / 36, (four - alone) / 3
    return Costs(few - 12 * row_s, row_s, alone - stream_s, stream_s)


def _chunk_cpu_s(tree: Tree, rows: int) -> float:
    """Of a chunk in the middle of an answer."""
    voice, other = tree.voices(2)
    ids = np.concatenate([tree.ids(other)] * 2)
    decoder = StepWaveDecoder(tree.layout.vocoder, threads=1, chunk_rows=(rows,))

    async def chunks() -> list[float]:
        taken, begun_s = [], time.process_time()
        async for _ in decoder.stream(_drawn(ids), voice):
            taken.append(time.process_time() - begun_s)
            begun_s = time.process_time()
        return taken[2:-1]

    asyncio.run(chunks())
    taken = [one for _ in range(3) for one in asyncio.run(chunks())]
    decoder.close()
    return statistics.median(taken)


async def _drawn(ids: Int32Array) -> AsyncIterator[TokenChunk]:
    yield TokenChunk(ids, last=True)


def _step_cpu_s(tree: Tree, streams: int) -> float:
    engine = tree.engine(streams)

    async def answer(seed: int) -> int:
        sampling = Sampling(seed=seed, max_tokens=240)
        return sum([len(chunk.ids) async for chunk in engine.stream(PROMPT_IDS, sampling)])

    async def answers() -> list[int]:
        return await asyncio.gather(*(answer(seed) for seed in range(streams)))

    asyncio.run(answers())
    taken: list[float] = []
    for _ in range(3):
        begun_s = time.process_time()
        steps = max(asyncio.run(answers()))
        taken.append((time.process_time() - begun_s - streams * PREFILL_S) / steps)
    engine.close()
    return statistics.median(taken)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.known_voice.schedules")
    parser.add_argument("--json", type=Path, metavar="FILE")
    names = ("CHUNK", "ROW", "STEP", "STREAM")
    parser.add_argument("--cpu-ms", nargs=4, type=float, metavar=names, help="see Costs")
    options = parser.parse_args()
    given_ms = options.cpu_ms
    costs = Costs(*(one / 1e3 for one in given_ms)) if given_ms else measured()
    about = {**provenance("cpu"), "costs": asdict(costs)}
    return publish(rows_of(costs), about, options.json)


if __name__ == "__main__":
    sys.exit(main())
