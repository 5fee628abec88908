"""Measures the cache on this machine, beside the algorithm of the cache that it replaces.

    python -m load_tests.bench.cache [--quick] [--json FILE]

The predecessor's algorithm, reimplemented for the comparison: one process, MD5 over the samples,
tokens as JSON in one file per clip, a Python list as the order of use.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cache_store.aliases import Alias
from cache_store.codec import Record, RecordCodec
from cache_store.keyring import Keyring
from cache_store.keys import AliasKey, VoiceKey, digest, raw_key
from cache_store.local_store import LocalStore
from cache_store.memory import MemoryTier
from cache_store.opening import open_cache
from cache_store.settings import CacheSettings
from tests.cache_helpers import FINGERPRINT, SCHEMA, make_bucket, make_key, make_record, ministack

RECORD = make_record(seconds=10)
SAMPLES = np.random.default_rng(0).integers(-(2**15), 2**15, 240_000, dtype=np.int16)


@dataclass(frozen=True)
class Row:
    """One measurement; bar and predecessor are None where there is none."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    predecessor: float | None = None
    is_lower_better: bool = True

    @property
    def is_met(self) -> bool:
        return self.bar is None or (self.value <= self.bar) == self.is_lower_better


class PredecessorCache:
    """List-based LRU over JSON files, tokens only."""

    def __init__(self, directory: Path, capacity: int) -> None:
        self.directory = directory
        self.capacity = capacity
        self.values: dict[str, dict[str, object]] = {}
        self.order: list[str] = []

    def key(self, samples: np.ndarray) -> str:
        return hashlib.md5(samples.tobytes(), usedforsecurity=False).hexdigest()

    def get(self, key: str) -> dict[str, object] | None:
        if key in self.values:
            self.order.remove(key)
            self.order.append(key)
            return self.values[key]
        file = self.directory / f"{key}.json"
        if not file.exists():
            return None
        self.put(key, json.loads(file.read_text()), save=False)
        return self.values[key]

    def put(self, key: str, value: dict[str, object], save: bool = True) -> None:
        if len(self.order) >= self.capacity:
            del self.values[self.order.pop(0)]
        self.values[key] = value
        self.order.append(key)
        if save:
            (self.directory / f"{key}.json").write_text(json.dumps(value))


def median_s(action: Callable[[int], object], count: int = 300) -> float:
    action(0)
    times_s = []
    for number in range(count):
        started = time.perf_counter()
        action(number)
        times_s.append(time.perf_counter() - started)
    return float(np.median(times_s))


async def median_async_s(action: Callable[[int], Awaitable[object]], count: int = 300) -> float:
    await action(0)
    times_s = []
    for number in range(count):
        started = time.perf_counter()
        await action(number)
        times_s.append(time.perf_counter() - started)
    return float(np.median(times_s))


async def encode() -> Record:
    return RECORD


def measure_codec() -> list[Row]:
    codec, key = RecordCodec(SCHEMA, Keyring()), "12" * 32
    entry = codec.encode(RECORD, key)
    whole = {name: array.tolist() for name, array in RECORD.arrays.items()}
    text = json.dumps(whole)
    return [
        Row("encode a record", 1e3 * median_s(lambda _: codec.encode(RECORD, key)), "ms", 0.3,
            1e3 * median_s(lambda _: json.dumps(whole), 20)),
        Row("verify and decode", 1e3 * median_s(lambda _: codec.decode(entry, key)), "ms", 0.2,
            1e3 * median_s(lambda _: json.loads(text), 20)),
        Row("size over its arrays", len(entry) / RECORD.array_bytes, "×", 1.02,
            len(text) / RECORD.array_bytes),
    ]  # fmt: skip


def measure_memory(directory: Path) -> list[Row]:
    names = [f"{i:064x}" for i in range(10_000)]
    ours = MemoryTier[int](10**9)
    theirs = PredecessorCache(directory, 20_000)
    for name in names:
        ours.put(name, 1, 100)
        theirs.put(name, {}, save=False)
    chosen = [names[i] for i in np.random.default_rng(1).integers(0, 10_000, 5_001)]
    return [
        Row("LRU operation at 10,000 entries",
            1e6 * median_s(lambda i: ours.get(chosen[i]), 5_000), "µs", 2.0,
            1e6 * median_s(lambda i: theirs.get(chosen[i]), 5_000)),
    ]  # fmt: skip


async def measure_l1(directory: Path) -> list[Row]:
    upload = os.urandom(2**20)
    cache = open_cache(CacheSettings(url="none", l2="off"), SCHEMA)
    await cache.start()
    clip = digest("bench", SAMPLES.tobytes())
    cache.publish_alias(AliasKey("shared", raw_key(upload), "01" * 32), Alias(clip, 10.0))

    async def hit(_: int) -> None:
        alias = await cache.find_alias(AliasKey("shared", raw_key(upload), "01" * 32))
        assert alias is not None
        await cache.get_or_compute(VoiceKey("shared", alias.clip_digest, FINGERPRINT), encode)

    theirs = PredecessorCache(directory, 1_000)
    theirs.put(theirs.key(SAMPLES), {}, save=False)
    old_ms = 1e3 * median_s(lambda _: theirs.get(theirs.key(SAMPLES)))
    ours_ms = 1e3 * await median_async_s(hit)
    await cache.close()
    return [Row("L1 hit from a 1 MB upload (old: from samples)", ours_ms, "ms", 0.5, old_ms)]


async def measure_l3(directory: Path) -> list[Row]:
    theirs = PredecessorCache(directory, 1)
    tokens = {name: RECORD.arrays[name].tolist() for name in ("vq02", "vq06")}
    for name in ("a", "b"):
        theirs.put(name, tokens)
    json_ms = 1e3 * median_s(lambda i: theirs.get("ab"[i % 2]))
    local = CacheSettings(url=str(directory / "l3"), l1_bytes=0, l2="off")
    rows = [
        Row(
            "L3 hit, local directory (old: tokens only)",
            await _l3_hit_ms(local),
            "ms",
            1.0,
            json_ms,
        )
    ]
    with ministack(directory) as (endpoint, _):
        server = make_bucket(endpoint, "voices")
        s3 = local.model_copy(
            update={"url": "s3://voices/bench", "storage_options": server.storage_options}
        )
        rows.append(Row("L3 hit, S3 on loopback", await _l3_hit_ms(s3), "ms", 10.0))
    return rows


async def _l3_hit_ms(settings: CacheSettings) -> float:
    cache = open_cache(settings, SCHEMA)
    await cache.start()
    await cache.get_or_compute(make_key(), encode, durable=True)

    async def hit(_: int) -> None:
        assert (await cache.get_or_compute(make_key(), encode)).tier == "l3"

    value_ms = 1e3 * await median_async_s(hit)
    await cache.close()
    return value_ms


async def measure_start(directory: Path, entries: int) -> list[Row]:
    """Time to ready with an empty L3, and with many entries."""
    rows = []
    store = LocalStore(directory / "full")
    data = RecordCodec(SCHEMA, Keyring()).encode(make_record(seconds=0.1), "12" * 32)
    for i in range(entries):
        store.create(make_key(str(i)).path, data)
    for name, count in (("empty", 0), ("full", entries)):
        settings = CacheSettings(url=str(directory / name), l2="off")
        started = time.perf_counter()
        cache = open_cache(settings, SCHEMA)
        await cache.start()
        took_ms = 1e3 * (time.perf_counter() - started)
        rows.append(Row(f"start with {count:,} entries", took_ms, "ms", 1000))
        await cache.close()
    return rows


async def measure_growth(directory: Path, clips: int) -> list[Row]:
    """Resident memory after the budgets are full, and after ten times as many clips."""
    settings = CacheSettings(
        url=str(directory / "growth"), l2="off", l1_bytes=10**7, alias_bytes=10**5
    )
    cache = open_cache(settings, SCHEMA)
    small = make_record(seconds=0.2)

    async def encode_small() -> Record:
        return small

    first_mb = 0.0
    for i in range(clips):
        name = str(i)
        await cache.get_or_compute(make_key(name), encode_small)
        alias_key = AliasKey("shared", raw_key(name.encode()), "01" * 32)
        cache.publish_alias(alias_key, Alias("ab" * 32, 1))
        if i == clips // 10:
            first_mb = _resident_mb()
    grown_mb = _resident_mb() - first_mb
    await cache.close()
    return [Row(f"memory growth, clip {clips // 10:,} to {clips:,}", grown_mb, "MB", 30)]


def measure_cluster() -> list[Row]:
    import ray

    from tests.cache_fleet import Fleet, start_cluster, stop_cluster

    running = start_cluster()
    try:
        with tempfile.TemporaryDirectory() as directory:
            fleet = Fleet(Path(directory), 8)
            names = [str(i) for i in range(100)]
            writer, reader = fleet.replicas[1], fleet.replicas[2]
            for name in names:
                ray.get(fleet.request(name, encode_s=0, replicas=[writer]))
            time.sleep(1)
            replies = [ray.get(fleet.request(name, replicas=[reader]))[0] for name in names]
            assert {tier for tier, _, _ in replies} == {"l2"}
            l2_ms = 1e3 * float(np.median([took_s for _, took_s, _ in replies]))
            started = time.perf_counter()
            ray.get(fleet.request("burst", each=8))
            burst_ms = 1e3 * (time.perf_counter() - started)
            encodes = fleet.computed("burst")
            rows = [
                Row("L2 hit, another node's replica", l2_ms, "ms", 3.0),
                Row("encodes: 64 requests, 8 replicas, 3 nodes", encodes, "", 1, 8),
                Row("their slowest answer (an encode takes 150 ms)", burst_ms, "ms"),
            ]
            fleet.close()
    finally:
        stop_cluster(running)
    return rows


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def provenance() -> dict[str, object]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "unknown",
        "command": " ".join(["python -m load_tests.bench.cache", *sys.argv[1:]]),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no Ray, fewer entries")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rows += measure_codec()
        rows += measure_memory(directory)
        rows += asyncio.run(measure_l1(directory))
        rows += asyncio.run(measure_l3(directory))
        rows += asyncio.run(measure_start(directory, 1_000 if options.quick else 100_000))
        rows += asyncio.run(measure_growth(directory, 2_000 if options.quick else 100_000))
    if not options.quick:
        rows += measure_cluster()
    print(f"{'':50} {'ours':>10} {'bar':>8} {'predecessor':>12}")
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:g}"
        old = "" if row.predecessor is None else f"{row.predecessor:.4g}"
        mark = "" if row.is_met else "  MISSED"
        print(f"{row.what:50} {row.value:10.4g} {bar:>8} {old:>12} {row.unit}{mark}")
    results = {**provenance(), "rows": [asdict(row) for row in rows]}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
