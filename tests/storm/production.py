"""Production's own config on three machines that say they have GPUs, run by the runbooks.

What differs from production is the environment of `ray start`: docs/operations/rehearsal.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.cache_helpers import free_port, make_bucket, ministack
from tests.conftest import ROOT
from tests.fault_proxy import FaultProxy
from tests.rehearsal import rehearsal_variables
from tests.runbooks import RunbookStep, executed
from tests.serve.one.life.wheel import built, installed
from tests.storm.cluster import DASHBOARD_PORT, HEAD, HTTP_PORT, StormCluster, redis_server
from tests.storm.conftest import storage_options
from tests.storm.load import Load, failures, told_to_come_again
from tests.storm.machine import network

# 12 for what the config starts with, 4 for an update: docs/operations/rehearsal.md
L40S = ["--num-cpus=8", "--num-gpus=2", '--resources={"accelerator_type:L40S": 2}']
SHARES = {HEAD: ["--num-cpus=0"], "a": L40S, "b": L40S}
NEXT_VERSION = "0.9.9"
STEP_S = 900.0
PATIENCE_S = 120.0  # of a client that is told to come again
N_SLOWEST = 10  # calls that are kept one by one


@dataclass
class Production:
    """The cluster, and what an operator on its head has at hand."""

    cluster: StormCluster
    directory: Path
    release: Path
    next_release: Path

    @property
    def variables(self) -> dict[str, str]:
        """Those that docs/operations/index.md names, and where commands are found."""
        path = f"{self.release / 'bin'}:{self.directory / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        return {
            "PATH": path,
            "CONFIG": str(self.directory / "serve_config.yaml"),
            "RELEASE": str(self.release),
            "NEXT": str(self.next_release),
            "KEY_FILE": str(self.directory / "museum.key"),
            "TIMBRE_URL": f"http://127.0.0.1:{HTTP_PORT}",
            "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{DASHBOARD_PORT}",
        }

    @property
    def key(self) -> str:
        return Path(self.variables["KEY_FILE"]).read_text().strip()

    def do(self, step: RunbookStep) -> float:
        """Run a step on the head as it stands in the runbook; how long it took, in seconds."""
        script = f"cd {self.directory / 'checkout'}\n{step.text}"
        began_s = time.monotonic()
        words = ("bash", "-euo", "pipefail", "-c", script)
        said = self.cluster.head.run(*words, timeout_s=STEP_S, **self.variables)
        sys.stdout.write(f"{step.page}:{step.line}: {said}\n")
        return time.monotonic() - began_s

    def releases(self) -> set[str]:
        """Directories of the releases that replicas are of."""
        exe = {
            Path(psutil.Process(pid).exe())
            for machine in self.cluster.machines.values()
            for pid in (one.pid for one in machine.processes("ray::ServeReplica:timbre:"))
        }
        return {str(one.parents[1]) for one in exe}

    def has(self, replicas: Mapping[str, int]) -> bool:
        """Whether so many of each stage are there, or more: they scale by their work."""
        stages = self.cluster.application()["deployments"]
        return all(len(stages[name]["replicas"]) >= n for name, n in replicas.items())


@contextlib.contextmanager
def production(directory: Path) -> Iterator[Production]:
    """Three machines with Ray of one release, another release beside it; no service yet."""
    release, next_release = _releases(directory)
    _checkout(directory)
    token = secrets.token_hex(32)
    with contextlib.ExitStack() as ends:
        gateway = ends.enter_context(network())
        redis = ends.enter_context(redis_server(directory, gateway))
        (directory / "s3").mkdir()
        port = free_port()
        endpoint, _ = ends.enter_context(ministack(directory / "s3", port))
        bucket = make_bucket(endpoint, "voices").bucket
        proxy = FaultProxy(port, gateway)
        ends.callback(proxy.close)
        ray = [str(release / "bin" / "python"), "-m", "ray.scripts.scripts"]
        cluster = StormCluster(directory, gateway, "redis", SHARES, ray, token)
        ends.callback(cluster.stop)
        options = storage_options(f"http://{gateway}:{proxy.port}")
        cluster.start(
            redis,
            {
                **rehearsal_variables(f"s3://{bucket}/production"),
                "TIMBRE_CACHE__STORAGE_OPTIONS": json.dumps(options),
                "PYTHONPATH": "",  # each release has what it runs
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": token,
            },
        )
        yield Production(cluster, directory, release, next_release)


async def under_load(
    one: Production, act: list[RunbookStep], seed: int, per_s: float
) -> dict[str, Any]:
    """Run steps while requests come; what it took and what became of them."""
    headers = {"Authorization": f"Bearer {one.key}"}
    load = Load(lambda: one.cluster.urls, seed, headers, per_s, PATIENCE_S)
    try:
        await load.warm_up()
        began_s = time.monotonic()
        async with load.going():
            took_s = sum([await asyncio.to_thread(one.do, step) for step in act])
            await asyncio.sleep(5.0)
    finally:
        await load.close()
    return {
        "took_s": took_s,
        "requests": len(load.calls),
        "failed": failures(load.calls),
        "told_to_come_again": told_to_come_again(load.calls),
        "most_often": max(len(call.told) for call in load.calls),
        "longest_s": max(call.ended_s - call.due_s for call in load.calls),
        "longest_stall_s": max(call.stall_s for call in load.calls),
        "slowest": _slowest(load, began_s),
    }


def _slowest(load: Load, began_s: float) -> list[dict[str, Any]]:
    """The calls that waited longest for a sign, and when they came."""
    worst = sorted(load.calls, key=lambda call: -call.stall_s)[:N_SLOWEST]
    return [
        {
            "kind": call.kind,
            "at_s": round(call.due_s - began_s, 1),
            "stall_s": round(call.stall_s, 1),
            "ended_s": round(call.ended_s - began_s, 1),
            "told": len(call.told),
            "failure": call.failure,
        }
        for call in worst
    ]


def cluster_steps(page: str) -> list[RunbookStep]:
    return executed(page, "cluster")


def _releases(directory: Path) -> tuple[Path, Path]:
    """This tree as two releases, one with a later version."""
    found: list[Path] = []
    for name, version in (("0.1.0", ""), (NEXT_VERSION, NEXT_VERSION)):
        source = directory / f"source-{name}"
        source.mkdir()
        wheel = built(source, version)
        found.append(directory / f"timbre-{name}")
        installed(wheel, found[-1])
        _commands(found[-1])
    return found[0], found[1]


def _commands(release: Path) -> None:
    """`ray` and `serve` of the release; what it has behind it brings none of its own."""
    for name, module in (("ray", "ray.scripts.scripts"), ("serve", "ray.serve.scripts")):
        command = release / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {release}/bin/python -m {module} "$@"\n')
        command.chmod(0o755)


def _checkout(directory: Path) -> None:
    """What a runbook finds in the checkout that it is followed in."""
    (directory / "checkout").mkdir()
    shutil.copy(ROOT / "serve_config.yaml", directory / "checkout")
    shutil.copytree(ROOT / "deploy", directory / "checkout" / "deploy")


def is_shipped(config: Path) -> bool:
    """Whether a config is the shipped one, but for its own path and the release."""
    text = re.sub(r"^    runtime_env: .*\n", "", config.read_text(), flags=re.MULTILINE)
    shipped = (ROOT / "serve_config.yaml").read_text()
    return text.replace(str(config), "serve_config.yaml") == shipped
