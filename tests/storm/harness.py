"""One fault under one load, and what came of it: a row of the table."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import httpx
import psutil

from tests.storm.cluster import TWO
from tests.storm.faults import Fault, Scene
from tests.storm.load import Load, Unserved, failures
from tests.storm.rows import Row

CALM_S = 5.0  # under load before the fault
AFTER_S = 8.0  # under load after all is well
WATCH_S = 60.0  # for it to be well again; the bar is half
LOOK_S = 0.25
UNTOLD = {"Router": 2, "Jobs": 1}  # replicas of which /readyz says nothing
TOLD_S = 3.0  # a wait from which on it is worth a line
KEPT_S = 90.0  # for accepted jobs to be spoken


async def run_case(scene: Scene, fault: Fault, seed: int) -> Row:
    """The fault under load, from its start until all is well for a while."""
    await asyncio.to_thread(scene.cluster.replace_lost)  # by an earlier fault, if it did
    await asyncio.to_thread(scene.cluster.wait_until_up)
    scene.missed, scene.doomed = {}, None
    load = Load(lambda: scene.cluster.urls, seed)
    try:
        await load.warm_up()
        async with load.going():
            await asyncio.sleep(CALM_S)
            began_s = time.monotonic()
            await asyncio.to_thread(fault.start, scene)
            await asyncio.sleep(fault.lasts_s)
            await asyncio.to_thread(fault.heal, scene)
            healed_s = time.monotonic()
            well_s = await _well_since(scene, load, healed_s)
            await asyncio.sleep(AFTER_S)
        lost = await _lost(load)
    finally:
        await load.close()
    bad_s = [one.ended_s for one in load.calls if one.failure]
    worst = max(load.calls, key=lambda one: one.stall_s)
    _tell(load, began_s, healed_s, well_s)
    recovered_s = None if well_s is None else max([well_s, *bad_s]) - healed_s
    return Row(
        fault.name,
        scene.setting,
        len(load.calls),
        failures(load.calls),
        round(worst.stall_s, 2),
        worst.kind,
        None if recovered_s is None else round(max(0.0, recovered_s), 1),
        len(load.ledger.voices) + len(load.ledger.jobs),
        tuple(lost),
    )


def _tell(load: Load, began_s: float, healed_s: float, well_s: float | None) -> None:
    """Write what failed or stood, in seconds since the fault began; pytest shows it on failure."""
    well = "never" if well_s is None else f"after {well_s - began_s:.1f} s"
    lines = [f"healed after {healed_s - began_s:.1f} s, all parts back {well}; due, ended, stood:"]
    for one in load.calls:
        if one.failure or one.stall_s > TOLD_S:
            times = f"{one.due_s - began_s:7.1f} {one.ended_s - began_s:7.1f} {one.stall_s:6.1f}"
            lines.append(f"{times} {one.kind} {one.failure}")
    sys.stdout.write("\n".join(lines) + "\n")


async def _well_since(scene: Scene, load: Load, since_s: float) -> float | None:
    """When every part of the service was back; None if it never was."""
    while (now_s := time.monotonic()) < since_s + WATCH_S:
        if await is_well(scene, load):
            return now_s
        await asyncio.sleep(LOOK_S)
    return None


async def is_well(scene: Scene, load: Load) -> bool:
    """Whether all replicas and proxies are there and answer."""
    try:
        report = (await load.get("/readyz")).json()
    except (httpx.HTTPError, Unserved, ValueError):
        return False
    counts = {name: len(one.get("replicas", ())) for name, one in report.get("stages", {}).items()}
    stages = [name.lower() for name in TWO if name != "Router"]
    if not report.get("ready") or any(counts.get(stage, 0) < 2 for stage in stages):
        return False
    if scene.doomed is not None and psutil.pid_exists(scene.doomed):
        return False
    for title, count in scene.missed.items():
        if len(await asyncio.to_thread(scene.cluster.processes, title)) != count:
            return False
    for stage, count in UNTOLD.items():
        if len(await asyncio.to_thread(scene.cluster.replicas, stage)) != count:
            return False
    return await asyncio.to_thread(scene.cluster.has_proxies)


async def _lost(load: Load) -> list[str]:
    """What the service said it had taken, and has not."""
    return [
        *[v for v in load.ledger.voices if not await _kept(load, f"voices/{v}", _is_there)],
        *[j for j in load.ledger.jobs if not await _kept(load, f"jobs/{j}", _is_complete)],
    ]


async def _kept(load: Load, path: str, is_good: Callable[[httpx.Response], bool]) -> bool:
    deadline_s = time.monotonic() + KEPT_S
    while time.monotonic() < deadline_s:
        try:
            if is_good(await load.get(f"/v1/audio/{path}")):
                return True
        except (httpx.HTTPError, Unserved):
            pass  # asked again
        await asyncio.sleep(0.5)
    return False


def _is_there(reply: httpx.Response) -> bool:
    return reply.is_success


def _is_complete(reply: httpx.Response) -> bool:
    return reply.is_success and reply.json()["status"] == "completed"
