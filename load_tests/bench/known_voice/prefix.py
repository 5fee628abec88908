"""A voice's keys and values in the language model: made again, or fetched from Ray's object store.

    python -m load_tests.bench.known_voice.prefix [--json FILE]

The embedded model is measured, one torch thread: prefill of the prefixes of the listed voices, as
the engine cuts it, against the way from another process of the same node: the index's answer, the
read, the copy into a slot. Of the released model's size the bytes are moved here, too; what the
devices and networks of others take of it is computed from the rates below.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from pipeline.audio.reference import read_reference
from pipeline.contracts import Int32Array, SpeechRequest
from pipeline.local import OneStream
from pipeline.prompting import CheckpointPrompts
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.engine.loading import load_engine
from pipeline.stepaudio.llm.engine.prefix import prefix_length
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from pipeline.voice_list import load_voices

REPEATS = 7
CHUNK_TOKENS = 32  # of prefill, as in serve_config.cpu.yaml
GPU_RESULTS = Path(__file__).parents[2] / "results" / "gpu_llm.json"
L40S_PREFILL_S = 0.025  # of 600 tokens of the released model, as estimated
PAGEABLE_BYTES_S = 6e9  # to a device, from memory that is not pinned, as the object store's is
NETWORKS_BIT_S = {"25 Gbit/s": 25e9, "10 Gbit/s": 10e9}
STORE_BYTES = 200 * 2**20


class Index:
    """Another process that has put values in the object store, and knows where."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def publish(self, key: str, value: np.ndarray) -> None:
        self._kept[key] = ray.put(value)

    def find(self, key: str) -> list[Any]:
        return [self._kept[key]]


def prefixes(layout: CheckpointLayout, stop_id: int) -> list[Int32Array]:
    """Of every listed voice, as a request's prompt begins."""
    encoder = StepVoiceEncoder(layout.tokenizer, layout.vocoder, threads=1)
    prompts = CheckpointPrompts(layout.editx)
    found: list[Int32Array] = []
    for voice in load_voices().values():
        clip = read_reference(voice.path.read_bytes()).clip
        request = SpeechRequest("Hello there.", voice.transcript)
        prompt = replace(encoder.encode_blocking(clip), clip_digest=clip.digest)
        script = next(prompts.scripts(request, prompt))
        found.append(script.prompt_ids[: prefix_length(script.prompt_ids, stop_id)])
    encoder.close()
    return found


def median_of(work: Callable[[int], object]) -> float:
    """Of REPEATS runs, numbered from 1; run 0 goes before and does not count."""
    taken: list[float] = []
    for i in range(REPEATS + 1):
        begun_s = time.perf_counter()
        work(i)
        taken.append(time.perf_counter() - begun_s)
    return statistics.median(taken[1:])


def prefill(engine: Engine, ids: Int32Array) -> None:
    """A prefix into the first slot, in the chunks of the service."""
    for start in range(0, len(ids), CHUNK_TOKENS):
        engine._runner.prefill(0, ids[start : start + CHUNK_TOKENS], start)


def measure_embedded(index: Any) -> list[Row]:
    """The longest, the shortest and the usual prefix of the listed voices."""
    layout = CheckpointLayout.at(resolve_model("tiny"))
    engine = load_engine(layout, OneStream("cpu"))
    runner = engine._runner
    known = sorted(prefixes(layout, engine._vocabulary.stop_id), key=len)
    rows: list[Row] = []
    for name, ids in (("shortest", known[0]), ("median", known[len(known) // 2])):
        made_s = median_of(lambda _, ids=ids: prefill(engine, ids))
        saved = runner.saved(0, len(ids)).numpy()
        for i in range(REPEATS + 1):  # a reader finds each for the first time
            ray.get(index.publish.remote(f"{name} {i}", saved + np.float32(i)))
        published_s = median_of(
            lambda _, name=name, saved=saved: ray.get(index.publish.remote(name, saved))
        )
        place = runner._cache.tensor[:, :, 0, :, : len(ids)].numpy()

        def fetch(i: int, name: str = name, place: np.ndarray = place) -> None:
            place[...] = ray.get(ray.get(index.find.remote(f"{name} {i}"))[0])

        fetched_s = median_of(fetch)
        what = f"embedded, {name} prefix ({len(ids)} tokens)"
        rows += [
            Row(f"{what}: keys and values", saved.nbytes / 1e6, "MB"),
            Row(f"{what}: prefill", 1e3 * made_s, "ms"),
            Row(f"{what}: found, read and copied", 1e3 * fetched_s, "ms"),
            Row(f"{what}: published, in the maker's background", 1e3 * published_s, "ms"),
            Row(f"{what}: prefill over fetch", made_s / fetched_s, "x"),
        ]
    engine.close()
    return rows


def measure_released(index: Any) -> list[Row]:
    """Bytes of the real size through this machine's store; the rest of the way by rates."""
    measured = {row["what"]: row["value"] for row in json.loads(GPU_RESULTS.read_text())["rows"]}
    n_bytes = round(1e6 * measured["a prefix's keys and values"])
    value = np.ones(n_bytes, np.uint8)
    for i in range(REPEATS + 1):
        ray.get(index.publish.remote(f"released {i}", value))
    found_s = median_of(lambda i: ray.get(ray.get(index.find.remote(f"released {i}"))[0]))
    same_node_s = found_s + n_bytes / PAGEABLE_BYTES_S
    ways = {"same node": same_node_s} | {
        f"another node, {name}": same_node_s + 8 * n_bytes / bits
        for name, bits in NETWORKS_BIT_S.items()
    }
    makers = {
        "L40S (estimated)": L40S_PREFILL_S,
        "H100 (measured)": measured["prefill of 600 tokens at once"] / 1e3,
    }
    rows = [
        Row("released, 600 tokens: keys and values", n_bytes / 1e6, "MB"),
        Row("released: found and mapped here", 1e3 * found_s, "ms"),
    ]
    for way, fetch_s in ways.items():
        rows.append(Row(f"released, {way}: on the device after", 1e3 * fetch_s, "ms"))
        rows += [
            Row(f"released, {way}: prefill of an {card} over it", made_s / fetch_s, "x")
            for card, made_s in makers.items()
        ]
    return rows


def measure() -> Sequence[Row]:
    """On a cluster of one node of its own."""
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        log_to_driver=False,
    )
    try:
        index = ray.remote(num_cpus=0)(Index).remote()
        return [*measure_embedded(index), *measure_released(index)]
    finally:
        ray.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.known_voice.prefix")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = measure()
    return publish(rows, provenance("cpu"), options.json)


if __name__ == "__main__":
    sys.exit(main())
