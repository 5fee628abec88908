"""Services of this tree and of an older commit in turns: what they are over HTTP, and on a cluster.

    python -m load_tests.bench.beside_services --commit HASH [--starts 2] [--part http|cluster]
        [--json FILE]

Each start is a service of its own: `timbre up`, the tree's CPU config, no records, replicas pinned
to one a stage, finished speech off. The trees take turns, so that other load on the machine hits
both alike; ratios are of one turn's two. `beside_commit` compares what needs no service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx

from load_tests.bench.beside_commit import ROOT, checked_out
from load_tests.bench.known_voice.listeners import listened
from load_tests.bench.known_voice.services import REQUEST_TIMEOUT_S, service
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish
from pipeline.continuity import Continuity

CHILD = Path(__file__).with_name("cluster_rows.py")
CHILD_TIMEOUT_S = 300
VOICE = "bruno"
TEXTS = (
    "There was nothing to be seen from the window.",
    "He asked for the letter and went away.",
    "The water was cold and the boat was small.",
    "They walked along the river until it was dark.",
)
WARM_UP, ALONE, LISTENERS, ROUNDS = 2, 8, 4, 3

# What one start found, (value, unit) by what was measured; lower is better in all of them.
Found = Mapping[str, tuple[float, str]]


async def one_listener(http: httpx.AsyncClient, number: int) -> Continuity:
    """One listener of a text of its own."""
    text = f"{TEXTS[number % len(TEXTS)]} That was number {number}."
    return await listened(http, VOICE, text, number)


async def let_in(http: httpx.AsyncClient, number: int) -> Continuity | None:
    """Also one listener; None where admission refuses it, which commits before it never do."""
    try:
        return await one_listener(http, number)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            raise
        return None


async def over_http(url: str) -> Found:
    """Listeners one after another, then several at once, all in one known voice."""
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False) as http:
        for number in range(WARM_UP):
            await one_listener(http, number)
        alone: list[Continuity] = []
        rtfs: list[float] = []
        for number in range(ALONE):
            begun_s = time.monotonic()
            alone.append(await one_listener(http, 100 + number))
            rtfs.append((time.monotonic() - begun_s) / alone[-1].audio_s)
        asked: list[Continuity | None] = []
        for turn in range(ROUNDS):
            many = (let_in(http, 1000 + LISTENERS * turn + i) for i in range(LISTENERS))
            asked += await asyncio.gather(*many)
    together = [one for one in asked if one is not None]
    return {
        "one listener: first audio, p50": (statistics.median(first_s(alone)), "s"),
        "one listener: RTF, p50": (statistics.median(rtfs), ""),
        f"{LISTENERS} at once: refused, of {LISTENERS * ROUNDS}": (len(asked) - len(together), ""),
        f"{LISTENERS} at once: first audio, p95": (percentile(first_s(together), 0.95), "s"),
        f"{LISTENERS} at once: streams that run dry": (sum(not one.is_ok for one in together), ""),
    }


def first_s(heard: Sequence[Continuity]) -> list[float]:
    return [one.ttfa_s for one in heard if one.ttfa_s is not None]


def one_start(tree: Path) -> Found:
    """A service of `tree`, from its start to its end."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        begun_s = time.monotonic()
        client = stack.enter_context(service(Path(name), tree))
        started_s = time.monotonic() - begun_s
        found = asyncio.run(over_http(str(client.base_url)))
    return {"start of the service": (started_s, "s"), **found}


def one_cluster(tree: Path) -> Found:
    """Three nodes with eight replicas of `tree`'s cache."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-P", str(CHILD)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tree,
        env=environment,
        timeout=CHILD_TIMEOUT_S,
    )
    if done.returncode:
        raise SystemExit(f"the cluster of {tree}: {done.stderr[-2000:]}")
    return {what: tuple(found) for what, found in json.loads(done.stdout.splitlines()[-1]).items()}


MEASURES = {"http": one_start, "cluster": one_cluster}


def rows_of(old: Sequence[Found], new: Sequence[Found]) -> list[Row]:
    """Medians of both trees, and of the turns' ratios where neither is 0; of what both measured."""
    rows: list[Row] = []
    for what in (what for what in new[0] if what in old[0]):
        unit = new[0][what][1]
        sides = {"old": [one[what][0] for one in old], "new": [one[what][0] for one in new]}
        rows += [Row(f"{what}: {side}", statistics.median(sides[side]), unit) for side in sides]
        turns = list(zip(*sides.values(), strict=True))
        if all(before > 0 and after > 0 for before, after in turns):
            ratios = sorted(before / after for before, after in turns)
            range_ = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            rows.append(Row(f"{what}: old / new, {range_}", statistics.median(ratios), "x"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.beside_services")
    parser.add_argument("--commit", required=True, help="the old one")
    parser.add_argument("--starts", type=int, default=2, help="of each tree")
    parser.add_argument("--part", choices=MEASURES, help="only this one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    options = parser.parse_args()
    rows: list[Row] = []
    with checked_out(options.commit) as tree:
        for part in [options.part] if options.part else MEASURES:
            old: list[Found] = []
            new: list[Found] = []
            for turn in range(options.starts):
                order = ((tree, old), (ROOT, new))
                for side, found in order if turn % 2 == 0 else reversed(order):
                    found.append(MEASURES[part](side))
            rows += rows_of(old, new)
    about = {**provenance("cpu"), "old_commit": options.commit}
    return publish(rows, about, options.json)


if __name__ == "__main__":
    sys.exit(main())
