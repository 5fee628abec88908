"""What preferring the replica of a voice finds, and what that saves.

    python -m load_tests.bench.known_voice.routing [--model-only] [--json FILE]

First, in virtual time: replicas that hold a number of voices each, least recently used out, and
requests of Zipf voices, sent to the less loaded of two at random or to `affinity.preferred`. Then
two services of the embedded model at the same time, two vocoders and two language models each that
hold some four of the eight listed voices, one routed by voice and one not, asked in turns.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import statistics
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from deployments.stages.affinity import preferred
from load_tests.bench.known_voice.services import first_audio_s, service
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from pipeline.voice_list import load_voices

REQUESTS = 20_000  # in virtual time
LENGTH_S = 2.0  # of a request, on average
ASKED = 24  # of each service
PREFIX_BYTES = 8 * 2**20
STATES_MIB = 44
TEXTS = ("Nobody knew the answer.", "The train was late.", "It rained all day.", "We went home.")

Route = Callable[[str, dict[str, int], np.random.Generator], str]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Replicas, the voices that each can hold, all voices, and requests a second for each."""

    replicas: int
    held: int
    voices: int
    rate_hz: float

    def __str__(self) -> str:
        at_once = self.rate_hz * LENGTH_S
        return f"{self.replicas} of {self.held}, {self.voices} voices, {at_once:g} at once in each"


# As in serve_config.yaml at the start and at its most; a prefix cache of 1 GiB holds some 50.
CROWDS = (
    Crowd(2, 50, 40, 4.0),
    Crowd(2, 50, 100, 0.25),
    Crowd(2, 50, 100, 4.0),
    Crowd(8, 50, 400, 0.25),
    Crowd(8, 50, 400, 4.0),
)


@dataclass(slots=True)
class Held:
    """The voices of one replica."""

    most: int
    voices: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def asked(self, voice: str) -> bool:
        """Whether it had the voice, which it has from now on."""
        had = voice in self.voices
        self.voices[voice] = None
        self.voices.move_to_end(voice)
        if len(self.voices) > self.most:
            self.voices.popitem(last=False)
        return had


def less_of_two(voice: str, loads: dict[str, int], draw: np.random.Generator) -> str:
    """Serve's own choice."""
    del voice
    two = draw.choice(list(loads), 2, replace=False)
    return min(two, key=lambda name: loads[str(name)])


def by_voice(voice: str, loads: dict[str, int], draw: np.random.Generator) -> str:
    """Ours."""
    del draw
    return preferred(voice, loads) or ""


def modelled(crowd: Crowd, route: Route) -> tuple[float, float]:
    """Share of requests that found their voice, and the load they found above the mean, p95."""
    draw = np.random.default_rng(0)
    weights = 1 / np.arange(1, crowd.voices + 1)
    chosen = draw.choice(crowd.voices, REQUESTS, p=weights / weights.sum())
    replicas = {f"replica {i}": Held(crowd.held) for i in range(crowd.replicas)}
    loads = dict.fromkeys(replicas, 0)
    ends: list[tuple[float, str]] = []
    found, above, now_s = 0, list[float](), 0.0
    for voice in chosen:
        now_s += draw.exponential(1 / (crowd.rate_hz * crowd.replicas))
        while ends and ends[0][0] <= now_s:
            loads[heapq.heappop(ends)[1]] -= 1
        name = str(route(str(voice), loads, draw))
        loads[name] += 1
        heapq.heappush(ends, (now_s + draw.exponential(LENGTH_S), name))
        found += replicas[name].asked(str(voice))
        above.append(loads[name] / (sum(loads.values()) / len(loads)))
    return found / len(chosen), float(np.percentile(above, 95))


def model_rows() -> list[Row]:
    """Both routes for every crowd."""
    rows: list[Row] = []
    for crowd in CROWDS:
        for name, route in (("less loaded of two", less_of_two), ("by voice", by_voice)):
            share, above = modelled(crowd, route)
            rows.append(Row(f"{crowd}; {name}: found", 100 * share, "%"))
            rows.append(Row(f"{crowd}; {name}: load over mean, p95", above, "x"))
    return rows


def two_of_each(
    args: dict[str, Any], deployments: dict[str, dict[str, Any]], *, is_by_voice: bool
) -> None:
    """Small shares of two cores, and memory for half of the voices."""
    for name in ("LLM", "Vocoder"):
        deployments[name]["autoscaling_config"] |= {"min_replicas": 2}
    for one in deployments.values():
        one["ray_actor_options"]["num_cpus"] = 0.1
    args["llm"] |= {"prefix_cache_bytes": PREFIX_BYTES, "voice_affinity": is_by_voice}
    args["vocoder"] |= {"prompt_memory_mib": STATES_MIB, "voice_affinity": is_by_voice}


def counted(client: httpx.Client) -> dict[str, float]:
    """Sums over the replicas."""
    stages = client.get("/readyz").json()["stages"]
    llms, vocoders = stages["llm"]["replicas"], stages["vocoder"]["replicas"]
    return {
        "prefix hits": sum(one["prefix_hits_total"] for one in llms),
        "prefixes": sum(one["prefix_hits_total"] + one["prefix_misses_total"] for one in llms),
        "look-ups": sum(one["states_found_total"] + one["states_missed_total"] for one in vocoders),
    }


def service_rows(directory: Path) -> list[Row]:
    """Zipf voices, both services in turns."""
    voices = list(load_voices())
    draw = np.random.default_rng(1)
    weights = 1 / np.arange(1, len(voices) + 1)
    chosen = draw.choice(voices, ASKED, p=weights / weights.sum())
    rows: list[Row] = []
    changes = [partial(two_of_each, is_by_voice=flag) for flag in (False, True)]
    with (
        service(directory / "random", change=changes[0]) as plain,
        service(directory / "by_voice", change=changes[1]) as routed,
    ):
        both = {"random": plain, "by voice": routed}
        for client in both.values():
            for voice in voices:
                first_audio_s(client, voice, "Hello.", 0)
        before = {name: counted(client) for name, client in both.items()}
        taken: dict[str, list[float]] = {name: [] for name in both}
        for seed, (voice, text) in enumerate(zip(chosen, itertools.cycle(TEXTS), strict=False)):
            for name, client in both.items():
                taken[name].append(first_audio_s(client, str(voice), text, seed))
        for name, client in both.items():
            after = counted(client)
            grew = {key: after[key] - before[name][key] for key in after}
            prefixes = 100 * grew["prefix hits"] / grew["prefixes"]
            states = 100 * (1 - grew["look-ups"] / ASKED)
            rows += [
                Row(f"service, {name}: prefixes found there or brought", prefixes, "%"),
                Row(f"service, {name}: vocoder states found in the replica", states, "%"),
                Row(f"service, {name}: first audio p50", statistics.median(taken[name]), "s"),
                Row(f"service, {name}: first audio, mean", statistics.mean(taken[name]), "s"),
            ]
    ratios = [a / b for a, b in zip(taken["random"], taken["by voice"], strict=True)]
    return [
        *rows,
        Row("service: first audio, random over by voice", statistics.median(ratios), "x"),
    ]


def measure(*, is_model_only: bool) -> Sequence[Row]:
    """All rows."""
    rows = model_rows()
    if not is_model_only:
        with tempfile.TemporaryDirectory() as name:
            rows += service_rows(Path(name))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.known_voice.routing")
    parser.add_argument("--model-only", action="store_true", help="start no service")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    return publish(measure(is_model_only=options.model_only), provenance("cpu"), options.json)


if __name__ == "__main__":
    sys.exit(main())
