"""Puts a named load on a running service and writes down what became of it.

    python -m load_tests.load --list
    python -m load_tests.load WORKLOAD URL [--json FILE] [--scale .1] [--duration 60]
    python -m load_tests.load all URL --json DIRECTORY [--scale .1] [--duration 60]

A load's rates are shares of what the service answers when it is saturated: measured first, with as
many clients in a closed loop as keep it busy, or given by --saturation, without which two runs
are not of the same load. Open loops: nobody waits for the answer to another's call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from load_tests.bench.energy import energy_meter
from load_tests.bench.provenance import provenance
from load_tests.load.answers import Answer
from load_tests.load.beside import JobBeside
from load_tests.load.clients import Clients, Clock
from load_tests.load.measures import METRICS
from load_tests.load.outcomes import whole_stages
from load_tests.load.place import local_only
from load_tests.load.plan import Call, Plan, plan_of
from load_tests.load.results import Document, calls_of, document
from load_tests.load.run import closed_loop, open_loop, saturated_hz, warmed_up
from load_tests.load.watch import Watch, root_of
from load_tests.load.workload import (
    DIRECTORY,
    Closed,
    Poisson,
    Recorded,
    Workload,
    workloads,
)
from pipeline.errors import ConfigError, TimbreError

BUSY_CLIENTS = 8  # keep two cores busy; more for more (--clients)
BUSY_CALLS_EACH = 3
OTHERS = 1_000_000  # numbers of clips that the run does not reach
GUESSED_CALL_S = 3.0  # of a closed loop, to space samples

Subject = tuple[str, int | None, int | None]  # voice, clip, seed of a phrase


def listing() -> str:
    """Every workload by its name, what it is, and how its calls come."""
    lines = [f"{name:14} {_kind(one):28} {one.about}" for name, one in workloads().items()]
    return "\n".join(lines)


def _kind(workload: Workload) -> str:
    arrivals = workload.arrivals
    if isinstance(arrivals, Closed):
        return f"closed, {arrivals.clients} × {arrivals.calls} calls"
    if isinstance(arrivals, Poisson):
        much = f"{arrivals.duration_s:g} s" if arrivals.duration_s else f"{arrivals.calls:,} calls"
        return f"open, {len(arrivals.phases)} phases, {much}"
    return "open, recorded"


async def measured(
    workload: Workload, options: argparse.Namespace, known: set[Subject]
) -> tuple[Document, list[Answer]]:
    """One run; warm-up, and the saturation that its rates are shares of, before it.

    known: what the service was asked to know in runs before; this one adds to it.
    """
    about, nonce = about_run(options), options.nonce
    async with Clients(options.url, clock := Clock(), workload.timeout_s) as clients:
        warm_ups = [one for one in plan_of(workload).warm_ups if subject_of(one) not in known]
        cold = await warmed_up(warm_ups, clients, clock, nonce)
        known |= {subject_of(one) for one in warm_ups}
        saturation_hz = options.saturation
        if saturation_hz is None and isinstance(workload.arrivals, Poisson):
            busy = busy_calls(workload, options.clients)
            saturation_hz = await saturated_hz(busy, options.clients, clients, clock, nonce)
            if not saturation_hz:
                raise ConfigError("the service answered no call: there is no load to put on it")
    plan = plan_of(workload, saturation_hz or 1.0)
    lasts_s = plan.lasts_s or GUESSED_CALL_S * len(plan.calls)
    meter = energy_meter(torch.device(options.device))
    async with Clients(options.url, clock := Clock(), workload.timeout_s) as clients:
        root_pid = root_of(options.url, options.state_dir)
        async with Watch(options.url, clock, lasts_s, meter, root_pid) as watch:
            async with JobBeside(options.url, plan, clock) as job:
                answers = await answers_to(plan, clients, clock, nonce)
    result = document(
        plan,
        answers,
        watch.samples,
        watch.spent,
        max([plan.lasts_s, *(one.ended_s for one in answers)]),
        about,
        warm_ups={"calls": len(warm_ups), "failed": cold},
        job=job.told,
        told=await whole_stages(options.url, answers) if workload.brings_voices else [],
    )
    return result, answers


def subject_of(call: Call) -> Subject:
    """What the service knows once it answered the call."""
    return call.voice, call.clip, call.seed


async def answers_to(plan: Plan, clients: Clients, clock: Clock, nonce: int) -> list[Answer]:
    """Send the calls as their workload has them come."""
    arrivals = plan.workload.arrivals
    if isinstance(arrivals, Closed):
        return await closed_loop(plan.calls, arrivals.clients, clients, clock, nonce)
    return await open_loop(plan.calls, clients, clock, nonce)


def asked(workload: Workload, options: argparse.Namespace) -> Workload:
    """The workload with what the command changes of it. Raises ConfigError."""
    if options.arrivals is not None:
        file = os.path.relpath(options.arrivals, DIRECTORY)
        arrivals = Recorded(kind="recorded", file=file)
        workload = workload.model_copy(update={"arrivals": arrivals, "job": None})
    if options.seed is not None:
        workload = workload.model_copy(update={"seed": options.seed})
    is_of_others = "," in options.workload and not isinstance(workload.arrivals, Poisson)
    return workload.scaled(options.scale, None if is_of_others else options.duration)


def about_run(options: argparse.Namespace) -> dict[str, Any]:
    """Hardware, commit, command, and what the operator says of the conditions."""
    return {
        **provenance(options.device),
        "memory_bytes": psutil.virtual_memory().total,
        "conditions": options.conditions,
        "nonce": options.nonce,
    }


def busy_calls(workload: Workload, n_clients: int) -> list[Call]:
    """Calls of the same mix for a closed loop; new clips in them are not those of the run."""
    arrivals = Closed(kind="closed", clients=n_clients, calls=n_clients * BUSY_CALLS_EACH)
    calls = plan_of(workload.model_copy(update={"arrivals": arrivals, "job": None})).calls
    n_known = workload.voices.count
    return [
        call if call.clip is None or call.clip < n_known else replace(call, clip=call.clip + OTHERS)
        for call in calls
    ]


def shown(result: Document) -> str:
    """The numbers of a run, for a terminal."""
    told = result["summary"]
    lines = [
        f"{told['calls']} calls in {told['lasts_s']:.1f} s: {told['ok']} answered, "
        f"{told['refused']} refused, {told['failed']} failed {told['errors'] or ''}, "
        f"{told['left']} hung up; {told['audio_s']:.1f} s of audio"
    ]
    for metric in METRICS:
        value = metric.of(told)
        told_as = "–" if value is None else f"{value:.4g}"
        lines.append(f"{metric.name:24} {told_as:>10} {metric.unit}")
    lines.append(f"objective {'met' if result['is_met'] else 'NOT met'}")
    return "\n".join(lines)


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", nargs="?", help="a name of --list, several with commas, or all")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--list", action="store_true", help="all workloads")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the result there; of several, a directory"
    )
    parser.add_argument("--calls", type=Path, metavar="FILE", help="write every call, JSON Lines")
    parser.add_argument("--scale", type=float, default=1.0, help="of the calls or the duration")
    parser.add_argument("--duration", type=float, metavar="S", help="of an open loop")
    parser.add_argument("--saturation", type=float, metavar="HZ", help="calls/s; else measured")
    parser.add_argument(
        "--arrivals", type=Path, metavar="FILE", help="send calls when those of --calls came"
    )
    parser.add_argument("--clients", type=int, default=BUSY_CLIENTS, help="that saturate it")
    parser.add_argument("--seed", type=int, help="instead of the workload's own")
    parser.add_argument(
        "--state-dir", type=Path, default=Path("out"), metavar="DIRECTORY",
        help="of the `timbre up` whose processes are watched",
    )  # fmt: skip
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of the service")
    parser.add_argument("--conditions", default="", metavar="WORDS", help="what ran beside, if any")
    parser.add_argument(
        "--nonce", type=int, default=secrets.randbelow(2**31), help="of the clips, else chance"
    )
    parser.add_argument(
        "--elsewhere", action="store_true", help="also a service that is not on this machine"
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run; 1 when calls failed, 2 when it could not be run."""
    options = options_of(words)
    if options.list:
        print(listing())
        return 0
    try:
        local_only(options.url, is_elsewhere=options.elsewhere)
        if options.workload == "all":
            options.workload = ",".join(workloads())
        chosen = [asked(named(name), options) for name in (options.workload or "").split(",")]
        known: set[Subject] = set()
        failed = 0
        for workload in chosen:
            result, answers = asyncio.run(measured(workload, options, known))
            print(f"{workload.name}: {shown(result)}", flush=True)
            written(result, answers, options, is_alone=len(chosen) == 1)
            failed += result["summary"]["failed"]
    except TimbreError as error:
        print(error, file=sys.stderr)
        return 2
    return int(failed > 0)


def named(name: str) -> Workload:
    """Raises ConfigError with the names that there are."""
    known = workloads()
    if name not in known:
        raise ConfigError(f"{name} is no workload; there are {', '.join(known)}")
    return known[name]


def written(
    result: Document, answers: Sequence[Answer], options: argparse.Namespace, *, is_alone: bool
) -> None:
    """Into the files that the command names."""
    name = result["workload"]["name"]
    for path, ending, text in (
        (options.json, "json", json.dumps(result, indent=1) + "\n"),
        (options.calls, "jsonl", calls_of(answers)),
    ):
        if path is not None:
            file = path if is_alone else path / f"{name}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
