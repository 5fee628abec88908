"""Measures finished speech: a repeated request over HTTP, and 64 equal ones over three nodes.

    python -m load_tests.bench.speech [--part http|cluster] [--json FILE]

Comparisons are ratios within one run: with the service's cheapest route, and with computing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import httpx

from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile

TEXT = "One two three four five six seven eight nine ten."  # about four seconds
PAIRS = 150  # of a repeated request and the cheapest route, in turns
CLIENTS = 4
MADE, REPEATED = 16, 400  # requests of either kind for throughput
LISTENERS = 64
SECONDS_BYTES = 48_000  # of pcm


def speech_body(seed: int, **fields: object) -> dict[str, object]:
    return {"input": TEXT, "voice": "aria", "seed": seed, "response_format": "pcm", **fields}


def first_byte_s(client: httpx.Client, method: str, path: str, **how: object) -> float:
    """Until the first byte of the body; the rest is read, too."""
    started_s = time.perf_counter()
    with client.stream(method, path, **how) as reply:  # type: ignore[arg-type]
        pieces = reply.iter_raw()
        next(pieces)
        took_s = time.perf_counter() - started_s
        for _ in pieces:
            pass
    return took_s


def throughput(url: str, bodies: Sequence[dict[str, object]]) -> float:
    """Seconds of speech a second, by a few clients at once."""

    def ask(body: dict[str, object]) -> int:
        return len(clients[id(body) % CLIENTS].post("/v1/audio/speech", json=body).content)

    clients = [httpx.Client(base_url=url, timeout=300) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        started_s = time.perf_counter()
        total_bytes = sum(pool.map(ask, bodies))
        took_s = time.perf_counter() - started_s
    for client in clients:
        client.close()
    return total_bytes / SECONDS_BYTES / took_s


def measure_http() -> list[Row]:
    """The shipped CPU config, one router."""
    from tests.serve.services import running, write_config

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        cache = {"url": str(directory / "voices")}
        config = write_config(directory, cache=cache, speech_cache={"enabled": True})
        with running(directory, config) as service:
            client, url = service.http, service.service.url
            made = client.post("/v1/audio/speech", json=speech_body(1))
            again = client.post("/v1/audio/speech", json=speech_body(1))
            alone = client.post("/v1/audio/speech", json=speech_body(1, cache="off"))
            others = sum(reply.content != made.content for reply in (again, alone))
            repeated, cheapest, refused = list[float](), list[float](), list[float]()
            apart = list[float]()
            for _ in range(PAIRS):
                how = {"json": speech_body(1)}
                repeated.append(first_byte_s(client, "POST", "/v1/audio/speech", **how))
                cheapest.append(first_byte_s(client, "GET", "/healthz"))
                chunked = {"content": iter([json.dumps(speech_body(1)).encode()])}
                apart.append(first_byte_s(client, "POST", "/v1/audio/speech", **chunked))
                refused.append(first_byte_s(client, "POST", "/v1/audio/speech", json={}))
            computing = throughput(url, [speech_body(100 + i, cache="off") for i in range(MADE)])
            reusing = throughput(url, [speech_body(1) for _ in range(REPEATED)])
            served = client.get("/v1/cache").json()["speech"]
    hit_s, route_s = statistics.median(repeated), statistics.median(cheapest)
    return [
        Row("speech of the repeated request", len(made.content) / SECONDS_BYTES, "s"),
        Row("other bytes repeated, or made without the cache", others, "", 0),
        Row("answers made to be kept", served["computes"], "", 1),
        Row("first byte of the cheapest route, p50", 1e3 * route_s, "ms"),
        Row("first byte of a refused body, p50", 1e3 * statistics.median(refused), "ms"),
        Row("first byte of a repeated request, p50", 1e3 * hit_s, "ms"),
        Row(
            "the same, its body in chunks: in a call of its own",
            1e3 * statistics.median(apart),
            "ms",
        ),
        Row("the same as a multiple of the cheapest route", hit_s / route_s, "×", 1.5),
        Row("speech made a second", computing, "s/s"),
        Row("speech repeated a second", reusing, "s/s"),
        Row("repeated over made", reusing / computing, "×", 20, "higher"),
    ]


def measure_cluster() -> list[Row]:
    """64 listeners over three nodes, of what takes 2.4 s to make; then one's maker is killed."""
    import ray
    from ray.exceptions import RayActorError

    from tests.cache_fleet import start_cluster, stop_cluster
    from tests.speech_fleet import CHUNK_S, CHUNKS, Listened, SpeechFleet

    running = start_cluster()
    try:
        with tempfile.TemporaryDirectory() as name:
            fleet = SpeechFleet(Path(name), 3)
            ray.get(fleet.listen(1, 3))  # connections
            alone: list[Listened] = [
                ray.get(fleet.listen(10 + i, 1, reuse="off"))[0] for i in range(5)
            ]
            listened: list[Listened] = ray.get(fleet.listen(2, LISTENERS))
            computations = len(fleet.makers(2))
            later = ray.get(fleet.listen(3, 3) + fleet.listen(3, 9, after_s=1.0))[3:]
            dying = fleet.listen(4, 12)
            _wait_for(lambda: bool(fleet.makers(4)))
            time.sleep(1.0)
            killed_s = time.perf_counter()
            os.kill(fleet.makers(4)[0], signal.SIGKILL)
            survivors = list[Listened]()
            for reference in dying:
                try:
                    survivors.append(ray.get(reference))
                except RayActorError:
                    continue
            rescued_s = time.perf_counter() - killed_s
            taken_over = len(fleet.makers(4))
            fleet.close()
    finally:
        stop_cluster(running)
    first_alone_s = statistics.median(_first_s(alone))
    first_of_many_s = statistics.median(_first_s(listened))
    whole_s = CHUNKS * CHUNK_S
    heard_s = [one.heard.audio_s for one in listened + survivors]
    return [
        Row("computations of 64 equal requests at once, 3 nodes", computations, "", 1),
        Row("different answers among them", len({one.digest for one in listened}), "", 1),
        Row(
            "answers that lack a part", sum(abs(s - whole_s) > CHUNK_S / 2 for s in heard_s), "", 0
        ),
        Row("listeners that ran dry", sum(not one.heard.is_ok for one in listened), "", 0),
        Row("first audio alone, p50", 1e3 * first_alone_s, "ms"),
        Row("first audio of the 64, p50", 1e3 * first_of_many_s, "ms"),
        Row("the same as a multiple of alone", first_of_many_s / first_alone_s, "×", 1.1),
        Row("first audio of the 64, slowest", 1e3 * max(_first_s(listened)), "ms"),
        Row("first audio of who comes a second later, slowest", 1e3 * max(_first_s(later)), "ms"),
        Row("longest gap among the 64, p95", 1e3 * percentile(_gaps_s(listened), 0.95), "ms"),
        Row("maker killed: computations", taken_over, "", 2),
        Row("maker killed: listeners of other nodes not served", 8 - len(survivors), "", 0),
        Row("maker killed: different answers", len({one.digest for one in survivors}), "", 1),
        Row("maker killed: longest gap", 1e3 * max(_gaps_s(survivors)), "ms"),
        Row("maker killed: all served after", rescued_s, "s"),
    ]


def _first_s(listened: Sequence[object]) -> list[float]:
    return [one.heard.ttfa_s for one in listened]  # type: ignore[attr-defined]


def _gaps_s(listened: Sequence[object]) -> list[float]:
    return [one.heard.longest_gap_s for one in listened]  # type: ignore[attr-defined]


def _wait_for(check: Callable[[], bool]) -> None:
    while not check():
        time.sleep(0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["http", "cluster"], help="only this one")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    rows: list[Row] = []
    if options.part != "cluster":
        rows += measure_http()
    if options.part != "http":
        rows += measure_cluster()
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:g}"
        mark = "" if row.is_met else "  MISSED"
        print(f"{row.what:56} {row.value:10.4g} {row.unit:4} {bar:>8}{mark}")
    results = {**provenance("cpu"), "rows": [asdict(row) for row in rows]}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
