"""What traces cost: a service that traces nothing of itself, asked in turns with and without.

    python -m load_tests.bench.router.tracing [--pairs 6] [--requests 8] [--json FILE]

The service follows its callers: a block of requests with a traceparent is traced, every one of
them, the next without is not. So both are of one service, seconds apart, and other load on the
machine hits both alike; which comes first changes from pair to pair. CPU seconds are those of all
processes of the service, the threads that send spans included; what sends waits at the end of a
block. The speech is made anew each time; of kept speech, where a request costs next to nothing,
the same again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from deployments.local.service import LocalService
from load_tests.bench.known_voice.services import service
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from load_tests.bench.router.services import cpu_s
from tests.otlp import Collector, collecting
from tests.waiting import wait_until

AT_ONCE = 2
SENT_S = 6.0  # spans are sent every five seconds
TEXT = "One two three four five six seven eight nine ten."
KEPT_PER_MADE = 25  # as many more requests of kept speech, so that a block of them takes seconds
BAR = 1.02
SETTINGS = {"sampled_share": 0.0, "follows_callers": True}


@dataclass(frozen=True, slots=True)
class Block:
    """Of some requests. Per request: CPU seconds of the service, seconds of the wall."""

    cpu_s: float
    wall_s: float


class Bench:
    """One service. directory: its state."""

    def __init__(self, http: httpx.Client, directory: Path, collector: Collector) -> None:
        running = LocalService(directory).running()
        assert running is not None
        self._http, self._service, self._collector = http, running, collector

    def pairs(self, n_pairs: int, n_requests: int, fields: dict[str, Any]) -> list[Sequence[Block]]:
        """Blocks without and with traces, so many times. fields: of the requests' bodies."""
        self._block(n_requests, fields, is_traced=True)  # connections, caches, the exporters
        found: list[Sequence[Block]] = []
        for number in range(n_pairs):
            order = (False, True) if number % 2 else (True, False)
            blocks = {one: self._block(n_requests, fields, is_traced=one) for one in order}
            found.append((blocks[False], blocks[True]))
        return found

    def _block(self, n_requests: int, fields: dict[str, Any], *, is_traced: bool) -> Block:
        traces_before = len(self._collector.traces())
        before_s, began_s = sum(cpu_s(self._service).values()), time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda _: self._speak(fields, is_traced=is_traced), range(n_requests)))
        wall_s = time.perf_counter() - began_s
        time.sleep(SENT_S)
        cpu = sum(cpu_s(self._service).values()) - before_s
        wanted = n_requests if is_traced else 0
        wait_until(lambda: len(self._collector.traces()) - traces_before >= wanted)
        seen = len(self._collector.traces()) - traces_before
        assert seen == wanted, f"{seen} traces of {n_requests} requests"
        return Block(cpu / n_requests, wall_s / n_requests)

    def _speak(self, fields: dict[str, Any], *, is_traced: bool) -> None:
        parent = f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"
        headers = {"traceparent": parent} if is_traced else {}
        body = {"input": TEXT, "voice": "aria", "seed": 1, "response_format": "mp3", **fields}
        self._http.post("/v1/audio/speech", json=body, headers=headers).raise_for_status()


def rows_of(what: str, pairs: Sequence[Sequence[Block]], bar: float | None) -> list[Row]:
    """Medians without and with, and the medians of the pairs' ratios."""
    rows = []
    for name, unit in (("cpu_s", "CPU s"), ("wall_s", "s")):
        plain, traced = ([getattr(pair[side], name) for pair in pairs] for side in (0, 1))
        ratio = statistics.median(b / a for a, b in zip(plain, traced, strict=True))
        rows += [
            Row(f"{what}: a request, untraced, {unit}", statistics.median(plain), unit),
            Row(f"{what}: a request, traced, {unit}", statistics.median(traced), unit),
            Row(f"{what}: traced by untraced, {unit}, median of pairs", ratio, "", bar),
        ]
    return rows


def _with_traces(
    endpoint: str, args: dict[str, Any], deployments: dict[str, dict[str, Any]]
) -> None:
    del deployments
    args["telemetry"] = {**SETTINGS, "otlp_endpoint": endpoint}
    args["speech_cache"] = {"enabled": True}
    args["admission"] = {"enabled": False}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What traces cost.")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, collecting() as collector:
        directory = Path(name)
        with service(directory, change=partial(_with_traces, collector.endpoint)) as http:
            bench = Bench(http, directory, collector)
            made = bench.pairs(asked.pairs, asked.requests, {"cache": "off"})
            kept = bench.pairs(asked.pairs, asked.requests * KEPT_PER_MADE, {"cache": "reuse"})
    rows = [*rows_of("speech made anew", made, BAR), *rows_of("kept speech", kept, None)]
    about = {**provenance("cpu"), "pairs": asked.pairs, "requests_a_block": asked.requests}
    return publish(rows, about, asked.json)


if __name__ == "__main__":
    raise SystemExit(main())
