"""What is watched of the controller and the GCS."""

from __future__ import annotations

import asyncio
import logging
import os
from types import SimpleNamespace

import psutil
import pytest

from deployments.telemetry import controller
from deployments.telemetry.controller import LagGauge, Warnings, watch_controller
from deployments.telemetry.processes import ProcessUse
from tests.unit.deployments.telemetry.conftest import Seen

pytestmark = pytest.mark.unit

GIB = 2**30


def use(gib: float, name: str = "gcs") -> ProcessUse:
    return ProcessUse(1, name, int(gib * GIB), 0, 0, 0, 30, 40)


def test_growth_is_said_at_each_doubling(caplog: pytest.LogCaptureFixture) -> None:
    warnings = Warnings(1.0 * GIB)
    for gib in (0.2, 0.9, 1.1, 1.2, 2.1, 2.3, 4.0, 4.7):
        warnings.look(use(gib))
    warnings.look(use(0.5, "controller"))
    taken = [message.split(" takes ")[1].split(" GiB")[0] for message in caplog.messages]
    assert taken == ["1.1", "2.3", "4.7"]
    assert all("gcs takes" in message for message in caplog.messages)


@pytest.mark.usefixtures("virtual_time")
async def test_the_worst_lag_since_the_last_report_is_told(seen: Seen) -> None:
    lag = LagGauge()
    lag.late(0.3)
    lag.late(0.1)
    lag.publish()
    lag.publish()
    assert [value for value, *_ in seen["timbre_controller_lag_s"]] == [0.0, 0.3, 0.0]


async def test_a_blocked_loop_is_late(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(controller, "BEAT_S", 0.01)
    monkeypatch.setattr(controller, "SLOW_S", 0.05)
    lag = LagGauge()
    beat = asyncio.create_task(lag.beat())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(lambda: controller.time.sleep(0.1))
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(0.15)
    beat.cancel()
    lag.publish()
    assert seen["timbre_controller_lag_s"][-1][0] >= 0.08
    assert any("did nothing for 0.1 s" in message for message in caplog.messages)


async def test_both_are_watched_from_within_the_controller(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def exists(_: bytes) -> bool:
        loop.call_soon_threadsafe(asked.set)
        return False

    gcs = SimpleNamespace(
        pid=os.getppid(),
        name=lambda: "gcs_server",
        cmdline=lambda: ["gcs_server", "--session-name=ours"],
        is_running=lambda: True,
    )
    other = SimpleNamespace(name=lambda: "gcs_server", cmdline=lambda: ["--session-name=theirs"])
    raylet = SimpleNamespace(cmdline=lambda: ["raylet", "--session-name=ours"])
    itself = SimpleNamespace(parent=lambda: raylet, pid=os.getpid())
    machine = SimpleNamespace(
        Process=lambda: itself,
        process_iter=lambda: iter([other, gcs]),
        NoSuchProcess=psutil.NoSuchProcess,
        AccessDenied=psutil.AccessDenied,
    )
    monkeypatch.setattr(controller, "psutil", machine)
    monkeypatch.setattr(controller, "_internal_kv_exists", exists)
    monkeypatch.setattr(controller, "_watching", watching := [])
    watch_controller()
    async with asyncio.timeout(5):
        await asked.wait()
        await asyncio.sleep(0.05)
    told = {name for _, name, _ in seen["timbre_process_bytes"]}
    assert told == {"controller", "gcs"}
    assert seen["timbre_gcs_answer_s"]
    for one in watching:
        if isinstance(one, asyncio.Task):
            one.cancel()
