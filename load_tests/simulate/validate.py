"""Holds the simulator to a real service: fitted to some loads, compared with others.

    python -m load_tests.simulate.validate --url http://127.0.0.1:8000

Within twelve minutes, on a machine that does nothing else. Each load's calls are kept below --state
and not sent again, so that what was stopped goes on; --fresh begins anew. Writes --json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from deployments.capacity.profile import load_profile
from load_tests.bench.provenance import provenance
from load_tests.load.answers import Answer
from load_tests.load.clients import Clients, Clock
from load_tests.load.place import local_only
from load_tests.load.plan import Plan, plan_of
from load_tests.load.results import calls_of
from load_tests.load.run import closed_loop, open_loop
from load_tests.load.workload import Closed, load_workload
from load_tests.simulate.fit import FIRST, PACE, WHOLE, Run, Scales, fitted, value
from load_tests.simulate.played import Lengths, played, told
from pipeline.errors import ConfigError, TimbreError

MIXES = Path(__file__).parent / "mixes"
FIT = ("fit_alone", "fit_crowd", "fit_misses", "fit_again")
UNSEEN = ("mixed_lengths", "new_voices", "burst")
BAR = 0.15
SHARES = (("voice_hit_share",), ("speech_hit_share",))
JUDGED = (FIRST, WHOLE, PACE, ("ok",), *SHARES)
SHOWN = (("first_audio_s", "p95"), ("whole_s", "p95"), ("refused",), ("dry_share",))
WARM_UPS = 5  # tries of what was refused
FORM = 1
CONTROLLER = "ray::ServeController"


@dataclass(frozen=True, slots=True)
class Heard:
    """A load as it was run."""

    plan: Plan
    answers: Sequence[Answer]
    cores: Mapping[str, float]
    """Busy cores by process."""
    replicas: int


def mix_plan(name: str, saturation_hz: float, scale: float = 1.0) -> Plan:
    """scale: of its calls, or of its duration."""
    return plan_of(load_workload(MIXES / f"{name}.yaml").scaled(scale, None), saturation_hz)


async def run(plan: Plan, url: str, nonce: int) -> Heard:
    """Send the plan's calls, its warm-up first."""
    async with Clients(url, clock := Clock(), plan.workload.timeout_s) as clients:
        await known(plan, clients, clock, nonce)
    before, begun_s = spent(), time.perf_counter()
    async with Clients(url, clock := Clock(), plan.workload.timeout_s) as clients:
        arrivals = plan.workload.arrivals
        if isinstance(arrivals, Closed):
            answers = await closed_loop(plan.calls, arrivals.clients, clients, clock, nonce)
        else:
            answers = await open_loop(plan.calls, clients, clock, nonce)
    lasts_s = time.perf_counter() - begun_s
    after = spent()
    cores = {name: (after[name] - before[name]) / lasts_s for name in after}
    return Heard(plan, answers, cores, replicas())


async def known(plan: Plan, clients: Clients, clock: Clock, nonce: int) -> None:
    """Make the plan's voices and phrases known, however busy the service finds itself at first.

    Raises ConfigError for a service that does not answer.
    """
    left = [replace(call, number=number) for number, call in enumerate(plan.warm_ups)]
    for _ in range(WARM_UPS):
        answers = await closed_loop(left, 1, clients, clock, nonce)
        done = {one.number for one in answers if one.outcome == "ok"}
        left = [call for call in left if call.number not in done]
        if not left:
            return
    raise ConfigError(f"{len(left)} calls of the warm-up failed: is the service well?")


def spent() -> Counter[str]:
    """CPU seconds of Ray's processes, by what they are."""
    found: Counter[str] = Counter()
    for process in psutil.process_iter(["cmdline", "cpu_times"]):
        if (name := _ray_name(process.info["cmdline"])) and process.info["cpu_times"]:
            found[name] += process.info["cpu_times"].user + process.info["cpu_times"].system
    return found


def replicas() -> int:
    """Processes that the controller looks after: replicas and proxies."""
    names = (_ray_name(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"]))
    return sum(
        name is not None and name.startswith(("ray::ServeReplica", "ray::ProxyActor"))
        for name in names
    )


def _ray_name(cmdline: Sequence[str] | None) -> str | None:
    if not cmdline:
        return None
    if cmdline[0].startswith("ray::"):
        return cmdline[0].split(".")[0].split(" ")[0]
    name = Path(cmdline[0]).name
    return name if name in {"raylet", "gcs_server"} else None


class State:
    """Loads that were run, each in a file, and the nonce of their clips."""

    def __init__(self, directory: Path, *, is_fresh: bool) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        if is_fresh:
            for file in directory.glob("*.json*"):
                file.unlink()

    def of(self, plan: Plan, url: str) -> Heard:
        """As it was run, now or before."""
        file = self._directory / f"{plan.workload.name}.json"
        if file.exists():
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["plan"] == plan.digest:
                answers = [Answer(**one) for one in kept["answers"]]
                return Heard(plan, answers, kept["cores"], kept["replicas"])
        heard = asyncio.run(run(plan, url, secrets.randbelow(2**31)))
        lines = calls_of(heard.answers).splitlines()
        document = {
            "plan": plan.digest,
            "answers": [json.loads(line) for line in lines],
            "cores": heard.cores,
            "replicas": heard.replicas,
        }
        file.write_text(json.dumps(document) + "\n", encoding="utf-8")
        return heard


@dataclass(frozen=True, slots=True)
class Compared:
    """One number of an unseen load. off: by what share; None where it is not judged or has none.

    is_near: of a judged one that a side lacks, or that was nothing, whether both say the same.
    """

    mix: str
    what: str
    measured: float | None
    simulated: float | None
    off: float | None
    is_near: bool


def compared(
    name: str, measured: Mapping[str, Any], simulated: Mapping[str, Any]
) -> list[Compared]:
    """Judged numbers first, then those that are shown: of a few calls, they are chance."""
    found: list[Compared] = []
    for path in (*JUDGED, *SHOWN):
        here, there = value(measured, path), value(simulated, path)
        what, is_judged = ", ".join(path), path in JUDGED
        off = None
        if is_judged and here is not None and there is not None:
            off = abs(there - here) if path in SHARES else abs(there / here - 1) if here else None
        is_near = here == there if off is None else off <= BAR
        found.append(Compared(name, what, here, there, off, is_near or not is_judged))
    return found


def validated(url: str, state: State, scale: float = 1.0) -> dict[str, Any]:
    """Run what was not yet, fit, and compare."""
    begun_s = time.perf_counter()
    fits = {name: state.of(mix_plan(name, 1.0, scale), url) for name in FIT}
    runs = {name: Run(one.plan, told(one.answers, one.plan)) for name, one in fits.items()}
    crowd = runs["fit_crowd"].measured
    saturation_hz = round(crowd["ok"] / crowd["lasts_s"], 3)
    unseen = {name: state.of(mix_plan(name, saturation_hz, scale), url) for name in UNSEEN}
    ran_s, profile = time.perf_counter() - begun_s, load_profile("cpu")
    calls = [call for one in fits.values() for call in one.plan.calls]
    lengths = lengths_of(list(fits.values()))
    scales, left = fitted(profile, lengths, runs)
    scaled = scales.of(profile)
    rows = [
        row
        for name, one in unseen.items()
        for row in compared(
            name, told(one.answers, one.plan), told(played(scaled, one.plan, lengths), one.plan)
        )
    ]
    controller = [one.cores.get(CONTROLLER, 0.0) / max(one.replicas, 1) for one in unseen.values()]
    return {
        "form": FORM,
        **provenance("cpu"),
        "scale": scale,
        "ran_s": ran_s,
        "fitted_s": time.perf_counter() - begun_s - ran_s,
        "calls": len(calls) + sum(len(one.answers) for one in unseen.values()),
        "saturation_hz": saturation_hz,
        "lengths": asdict(lengths),
        "scales": asdict(scales),
        "fit_off": left,
        "bar": BAR,
        "is_met": all(row.is_near for row in rows),
        "compared": [asdict(row) for row in rows],
        "cores": {name: dict(one.cores) for name, one in unseen.items()},
        "controller_cores_a_replica": sum(controller) / len(controller),
    }


def lengths_of(heard: Sequence[Heard]) -> Lengths:
    """By all answers of the loads that were run for it."""
    texts: list[Any] = []
    answers: list[Answer] = []
    for number, one in enumerate(heard):
        offset = number * 1_000_000
        texts += [_numbered(call, offset) for call in one.plan.calls]
        answers += [_numbered(answer, offset) for answer in one.answers]
    return Lengths.fitted(texts, answers)


def _numbered(one: Any, offset: int) -> Any:
    return replace(one, number=one.number + offset)


def lines(result: Mapping[str, Any]) -> list[str]:
    """For a terminal."""
    scales = Scales(**result["scales"])
    told_as = [f"scales {scales}; the fit is {100 * result['fit_off']:.0f} % off"]
    for row in result["compared"]:
        pair = [f"{row[key]:10.3f}" if row[key] is not None else f"{'–':>10}" for key in PAIR]
        off = "" if row["off"] is None else f"{100 * row['off']:5.0f} %"
        mark = "" if row["is_near"] else "  OFF"
        told_as.append(f"{row['mix']:14} {row['what']:22} {' '.join(pair)} {off}{mark}")
    told_as.append("within" if result["is_met"] else f"NOT within {100 * BAR:.0f} %")
    return told_as


PAIR = ("measured", "simulated")
NEXT = "python -m load_tests.simulate.profiles; python -m load_tests.simulate.page --simulate"


def main(words: Sequence[str] | None = None) -> int:
    """0 within the bar, 1 beyond it, 2 where it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.simulate.validate")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--json", type=Path, default=Path("load_tests/results/simulate.json"))
    parser.add_argument("--state", type=Path, default=Path("out/simulate"))
    parser.add_argument("--fresh", action="store_true", help="run every load again")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1 for a trial")
    parser.add_argument("--conditions", default="", metavar="WORDS", help="what ran beside, if any")
    options = parser.parse_args(words)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        local_only(options.url)
        state = State(options.state, is_fresh=options.fresh)
        result = validated(options.url, state, options.scale)
    except TimbreError as error:
        print(error, file=sys.stderr)
        return 2
    result["conditions"] = options.conditions
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines(result)))
    print(f"now: {NEXT}")
    return int(not result["is_met"])


if __name__ == "__main__":
    sys.exit(main())
