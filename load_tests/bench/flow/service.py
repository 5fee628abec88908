"""Measures the services of two trees in turns: eight listeners at once, then a killed vocoder.

    python -m load_tests.bench.flow.service --trees OLD NEW [--starts 5] [--json FILE]

Each start is a service of its own (`timbre up`, the tree's CPU config, an empty cache). The trees
take turns, so that other load on the machine hits both alike. Runs that FILE holds already count
as well: a long measurement can be made in several goes.
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
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import httpx
import psutil

from deployments.local.service import LocalService
from load_tests.bench.known_voice.listeners import listened
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from pipeline.continuity import Continuity
from tests.serve.service_client import TIMEOUT_S, ServiceClient

TEXT = (
    "Hello there. You only need to hear a voice once to speak with it again, and then it is quick."
)
ALONE, LISTENERS, ROUNDS = 9, 8, 2
LEAST_HELD = 5  # slots in work when the vocoder is killed
VOICE = "bruno"
SIDES = ("old", "new")
TIMBRE = (sys.executable, "-P", "-c", "from deployments.cli import app; app()")
UNITS = {
    "first_alone_s": ("first audio alone, p50", "s"),
    "first_p50_s": (f"first audio of {LISTENERS} at once, p50", "s"),
    "audio_rate": ("audio seconds a second", "s/s"),
    "cpu_s": ("CPU of all processes for a second of audio", "s"),
    "underruns": (f"underruns in {LISTENERS * ROUNDS} answers", ""),
    "held_slots": ("vocoder killed: slots in work", ""),
    "freed_s": ("vocoder killed: all slots free after", "s"),
    "load": ("load of the machine", ""),
}


@dataclass(frozen=True, slots=True)
class Run:
    """What one start found; see UNITS."""

    first_alone_s: float
    first_p50_s: float
    audio_rate: float
    cpu_s: float
    underruns: float
    held_slots: float
    freed_s: float
    load: float


@contextmanager
def started(tree: Path) -> Iterator[ServiceClient]:
    """A service of `tree`, with its own modules and config and an empty cache."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            **os.environ,
            "PYTHONPATH": str(tree),
            "TIMBRE_CACHE__URL": f"{directory}/voices",
        }

        def timbre(word: str) -> None:
            command = [*TIMBRE, word, "--state-dir", directory]
            subprocess.run(command, cwd=tree, env=environment, check=True, stdout=sys.stderr)

        timbre("up")
        try:
            service = LocalService(Path(directory)).running()
            if service is None:
                raise RuntimeError(f"the service of {tree} ended at once")
            with closing(ServiceClient(service)) as client:
                yield client
        finally:
            timbre("down")


async def one_listener(http: httpx.AsyncClient, seed: int, text: str = TEXT) -> Continuity:
    """One listener, for whom it is made anew."""
    return await listened(http, VOICE, text, seed, cache="off")


async def measured(client: ServiceClient) -> Run:
    """Listeners one by one, then at once, then a vocoder killed under them."""
    load = os.getloadavg()[0]
    async with httpx.AsyncClient(base_url=client.service.url, timeout=TIMEOUT_S) as http:
        await one_listener(http, 0)
        alone = [await one_listener(http, 1 + index) for index in range(ALONE)]
        together: list[Continuity] = []
        began_s, cpu_s = time.monotonic(), _cpu_s(client)
        for turn in range(1, ROUNDS + 1):
            many = (one_listener(http, 100 * turn + index) for index in range(LISTENERS))
            together += await asyncio.gather(*many)
        took_s, cpu_s = time.monotonic() - began_s, _cpu_s(client) - cpu_s
        held_slots, freed_s = await _freed_after_death(client, http)
    audio_s = sum(one.audio_s for one in together)
    return Run(
        first_alone_s=_first_p50_s(alone),
        first_p50_s=_first_p50_s(together),
        audio_rate=audio_s / took_s,
        cpu_s=cpu_s / audio_s,
        underruns=sum(one.underruns for one in together),
        held_slots=held_slots,
        freed_s=freed_s,
        load=load,
    )


async def _freed_after_death(client: ServiceClient, http: httpx.AsyncClient) -> tuple[int, float]:
    """kill -9 of the vocoder; its listeners leave at that moment, so that none is served again.

    → the LLM's slots in work then, and seconds until none is.
    """
    listeners = [
        asyncio.create_task(one_listener(http, 900 + index, f"{TEXT} {TEXT}"))
        for index in range(LISTENERS)
    ]
    while (held_slots := await _slots_active(client)) < LEAST_HELD:
        if any(one.done() for one in listeners):
            raise RuntimeError(f"never were {LEAST_HELD} slots in work")
    client.kill("Vocoder")
    killed_s = time.monotonic()
    for one in listeners:
        one.cancel()
    await asyncio.wait(listeners)
    while await _slots_active(client):
        continue
    return held_slots, time.monotonic() - killed_s


async def _slots_active(client: ServiceClient) -> int:
    return await asyncio.to_thread(client.gauge, "llm", "slots_active")


def _cpu_s(client: ServiceClient) -> float:
    root = psutil.Process(client.service.pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _first_p50_s(heard: Sequence[Continuity]) -> float:
    return statistics.median(one.ttfa_s for one in heard if one.ttfa_s is not None)


def rows_of(runs: dict[str, list[Run]]) -> list[Row]:
    """Medians of both sides, and of the pairs' ratios where neither is 0."""
    rows: list[Row] = []
    for field in fields(Run):
        what, unit = UNITS[field.name]
        values = {side: [getattr(run, field.name) for run in runs[side]] for side in SIDES}
        rows += [Row(f"{what}: {side}", statistics.median(values[side]), unit) for side in SIDES]
        pairs = list(zip(values["old"], values["new"], strict=True))
        if all(old > 0 for old, _ in pairs):
            ratios = sorted(new / old for old, new in pairs)
            range_ = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            rows.append(Row(f"{what}: new / old, {range_}", statistics.median(ratios), "x"))
    return rows


def runs_in(path: Path | None) -> dict[str, list[Run]]:
    """Of earlier goes."""
    if path is None or not path.exists():
        return {side: [] for side in SIDES}
    found = json.loads(path.read_text())["runs"]
    return {side: [Run(**run) for run in found[side]] for side in SIDES}


def _commit(tree: Path) -> str:
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.flow.service")
    parser.add_argument("--trees", nargs=2, type=Path, required=True, metavar=("OLD", "NEW"))
    parser.add_argument("--starts", type=int, default=5, help="of each tree")
    parser.add_argument("--json", type=Path, metavar="FILE", help="read and written")
    options = parser.parse_args()
    trees = dict(zip(SIDES, (tree.resolve() for tree in options.trees), strict=True))
    runs = runs_in(options.json)
    for _ in range(options.starts):
        pair: dict[str, Run] = {}
        for side, tree in trees.items():
            with started(tree) as client:
                pair[side] = asyncio.run(measured(client))
            print(f"{side}: {pair[side]}", file=sys.stderr)
        for side, run in pair.items():
            runs[side].append(run)
    about = {
        **provenance("cpu"),
        "commits": {side: _commit(tree) for side, tree in trees.items()},
        "runs": {side: [asdict(run) for run in runs[side]] for side in SIDES},
    }
    return publish(rows_of(runs), about, options.json)


if __name__ == "__main__":
    sys.exit(main())
