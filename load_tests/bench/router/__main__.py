"""What the router and Serve cost a request: HTTP in to HTTP out, without the stages.

    python -m load_tests.bench.router [--stages fake,real]
        [--ingress proxy,haproxy,proxy-one-loop,haproxy-one-loop] [--requests 100]
        [--set NAME=VALUE …] [--json load_tests/results/router.json]

Starts the shipped CPU config with marks in its processes (`timbre up`'s way), once with stages that
take no time and once with the real ones, through each of the ways in (Serve's proxy is what ships;
`services.INGRESSES` has their variables). One stream at a time tells where a request's time goes;
eight at once, what CPU time each process takes for a second of audio.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deployments.local.service import RunningService
from load_tests.bench.provenance import provenance
from load_tests.bench.router import marks
from load_tests.bench.router.client import Client, at_once, body, one_by_one
from load_tests.bench.router.services import INGRESSES, cpu_s, running
from load_tests.bench.router.spans import Span, way_of

BAR_MS = 6.0  # p50 of a first byte without the stages, one stream, quiet
WARM_UP, REAL_SHARE = 12, 5  # of real stages so many times fewer: each takes a second
STREAMS, EACH = 8, 4
STAGES = ("fake", "real")
SETTLE_S = 1.0


KINDS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "a new text with a seed: looked up and kept": lambda: body(seed=1),
    "a new text without a seed": body,
    "the same as mp3": lambda: body(response_format="mp3"),
    "a repeated request": lambda: {**body(seed=1), "input": "What was said before."},
}
BARRED = tuple(KINDS)[:2]


def bodies(kind: str, many: int) -> list[dict[str, Any]]:
    """Requests of one kind."""
    return [KINDS[kind]() for _ in range(many)]


def measured(service: RunningService, directory: Path, many: int) -> dict[str, Any]:
    """Of one service: the ways of every kind, then CPU for a second of audio."""
    with closing(Client(service.host, service.port)) as client:
        for kind in KINDS:
            one_by_one(client, bodies(kind, WARM_UP))
        asked = {kind: one_by_one(client, bodies(kind, many)) for kind in KINDS}
    time.sleep(SETTLE_S)
    spent = {kind: cpu_of(service, kind) for kind in BARRED}
    moments = marks.read(directory / "marks")
    return {
        "ways": [way_of(kind, requests, moments) for kind, requests in asked.items()],
        "cpu_ms_per_audio_s": spent,
    }


def cpu_of(service: RunningService, kind: str) -> dict[str, float]:
    """CPU milliseconds of each kind of process for a second of audio, several streams at once."""
    before = cpu_s(service)
    fields = {name: value for name, value in KINDS[kind]().items() if name == "seed"}
    audio_s = at_once(service.host, service.port, STREAMS, EACH, **fields)
    time.sleep(SETTLE_S)
    after = cpu_s(service)
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    most_first = sorted(spent, key=lambda name: -spent[name])
    return {name: 1e3 * spent[name] / audio_s for name in most_first}


def show(stages: str, found: Mapping[str, Any]) -> None:
    """The tables of one service."""
    for way in found["ways"]:
        print(
            f"\n{stages} stages, {way.kind} ({way.n_requests} requests), ms {'p50':>30} {'p95':>8}"
        )
        for span in (*way.first, way.first_total, *way.last, way.last_total):
            print(f"  {span.what:80} {span.p50_ms:8.2f} {span.p95_ms:8.2f}")
    for kind, spent in found["cpu_ms_per_audio_s"].items():
        print(f"\n{stages} stages, {STREAMS} at once, {kind}: CPU ms for a second of audio")
        for process, spent_ms in spent.items():
            print(f"  {process:80} {spent_ms:8.2f}")


def missed(found: Mapping[str, Any]) -> list[Span]:
    """What is over the bar."""
    totals = (way.first_total for way in found["ways"] if way.kind in BARRED)
    return [total for total in totals if total.p50_ms > BAR_MS]


def compare(results: Mapping[str, Mapping[str, Any]]) -> None:
    """The services beside each other."""
    print(f"\n{'without the stages, p50, ms':64}", *(f"{name:>24}" for name in results))
    for i, kind in enumerate(KINDS):
        for total in ("first_total", "last_total"):
            values = [getattr(one["ways"][i], total) for one in results.values()]
            byte = values[0].what.partition(" ")[0]
            line = (f"{value.p50_ms:24.2f}" for value in values)
            print(f"{kind + ', ' + byte + ' byte':64}", *line)
    for kind in BARRED:
        sums = (sum(one["cpu_ms_per_audio_s"][kind].values()) for one in results.values())
        cpu = f"{kind}: CPU ms for a second"
        print(f"{cpu:64}", *(f"{spent_ms:24.2f}" for spent_ms in sums))


def _variable(text: str) -> tuple[str, str]:
    if not re.fullmatch(r"\w+=.*", text):
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    name, _, value = text.partition("=")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.router")
    parser.add_argument("--stages", default=",".join(STAGES), help="fake, real or both")
    parser.add_argument("--ingress", default="proxy", help=f"some of {', '.join(INGRESSES)}")
    parser.add_argument("--requests", type=int, default=100, help="of each kind")
    parser.add_argument("--set", type=_variable, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    options = parser.parse_args()
    all_stages, ingresses = options.stages.split(","), options.ingress.split(",")
    if unknown := {*all_stages, *ingresses} - {*STAGES, *INGRESSES}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    results: dict[str, Mapping[str, Any]] = {}
    for stages, ingress in itertools.product(all_stages, ingresses):
        with tempfile.TemporaryDirectory() as name:
            how = {"ingress": ingress, "variables": dict(options.set)}
            is_real = stages == "real"
            many = max(options.requests // (REAL_SHARE if is_real else 1), 1)
            directory = Path(name)
            with running(directory, has_real_stages=is_real, **how) as service:
                found = measured(service, directory, many)
        show(f"{ingress}, {stages}", found)
        results[f"{stages} stages, {ingress}"] = found
    compare(results)
    about = {**provenance("cpu"), "variables": dict(options.set), "bar_ms": BAR_MS}
    if options.json:
        told = {
            name: {**found, "ways": [asdict(way) for way in found["ways"]]}
            for name, found in results.items()
        }
        options.json.write_text(json.dumps({**about, "services": told}, indent=1) + "\n")
    late = [(name, span) for name, found in results.items() for span in missed(found)]
    for name, span in late:
        print(f"{name}: over {BAR_MS:g} ms: {span.what}, {span.p50_ms:.2f}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
