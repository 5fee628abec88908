"""One or two torch threads a stage, on two cores: a known voice, by the clock and in CPU seconds.

    python -m load_tests.bench.known_voice.threads [--rounds 3] [--only NAMES] [--json FILE]

Every measurement is a process of its own that has both cores; one and two threads in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from load_tests.bench import beside_measures
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish

MEASURED = ("vocoder_stream", "four_at_once", "first_audio")
THREADS = (1, 2)


def here(name: str, threads: int) -> list[float]:
    """Medians by the clock and of the CPU, in this process."""
    torch.set_num_threads(threads)
    beside_measures.THREADS = threads
    taken, _ = beside_measures.MEASURES[name](beside_measures.Tree())
    return [statistics.median(values) for values in zip(*taken, strict=True)]


def apart(name: str, threads: int) -> tuple[float, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "load_tests.bench.known_voice.threads"]
    done = subprocess.run(
        [*command, "--child", name, str(threads)], capture_output=True, text=True, check=True
    )
    wall_s, cpu_s = json.loads(done.stdout.splitlines()[-1])
    return wall_s, cpu_s


def rows_of(name: str, rounds: int) -> list[Row]:
    """Every number of threads, `rounds` times in turn, and the ratio of the medians."""
    taken: dict[int, list[tuple[float, float]]] = {n: [] for n in THREADS}
    for _ in range(rounds):
        for n in THREADS:
            taken[n].append(apart(name, n))
    wall = {n: statistics.median(w for w, _ in found) for n, found in taken.items()}
    cpu = {n: statistics.median(c for _, c in found) for n, found in taken.items()}
    rows = [Row(f"{name}, {n} threads", wall[n], "s") for n in THREADS]
    rows.append(Row(f"{name}: one over two, by the clock", wall[1] / wall[2], "x"))
    rows.append(Row(f"{name}: two over one, CPU", cpu[2] / cpu[1], "x"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.known_voice.threads")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(MEASURED), help=", ".join(MEASURED))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, threads = options.child
        print(json.dumps(here(name, int(threads))), flush=True)
        os._exit(0)  # stages are left open, and OpenMP may abort when their threads are torn down
    rows: Sequence[Row] = [
        row for name in options.only.split(",") for row in rows_of(name, options.rounds)
    ]
    return publish(rows, provenance("cpu"), options.json)


if __name__ == "__main__":
    sys.exit(main())
