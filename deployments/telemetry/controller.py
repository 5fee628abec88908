"""Our hook in Serve's controller process, named in `controller_options` of the serve configs.

Ray calls it by RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH. It watches the two processes of a cluster
that nothing replaces, the controller and the GCS, both on the head: the first is known to keep
memory after scaling (ray-project/ray#58815), the second to grow over days (#63118).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

import psutil
from ray.experimental.internal_kv import _internal_kv_exists

from deployments.background import watched
from deployments.telemetry import metrics as table
from deployments.telemetry.gauges import keep_published
from deployments.telemetry.logs import adopt_serve_logging
from deployments.telemetry.processes import ProcessGauges, ProcessUse, use_of

logger = logging.getLogger(__name__)

EVERY_S = 10.0
BEAT_S = 0.25
SLOW_S = 2.0  # of a beat, or of the GCS: scaling and health checks come so much later
GIB = 2**30
FIRST_GIB = 1.0  # a fresh controller takes a fifth of it, a fresh GCS less
GCS = "gcs_server"
SESSION = "--session-name="

_watching: list[object] = []  # tasks and gauges, which nobody else holds


def watch_controller() -> None:
    """Start watching. Within the controller's event loop."""
    adopt_serve_logging()
    pids = _Pids()
    lag = LagGauge()
    _watching[:] = [
        ProcessGauges(pids.by_name),
        lag,
        watched("the controller's beat", lag.beat),
        watched("watching controller and GCS", partial(_watch, pids.by_name)),
    ]


class LagGauge:
    """How late the event loop of this process is, at worst, since the last report."""

    def __init__(self) -> None:
        self._gauge = table.CONTROLLER_LAG.open()
        self._worst_s = 0.0
        keep_published(self)

    def publish(self) -> None:
        """Set the gauge, and begin anew."""
        worst_s, self._worst_s = self._worst_s, 0.0
        self._gauge.set(worst_s)

    async def beat(self) -> None:
        """Measure until cancelled."""
        while True:
            asked_s = time.monotonic()
            await asyncio.sleep(BEAT_S)
            self.late(time.monotonic() - asked_s - BEAT_S)

    def late(self, seconds: float) -> None:
        """A beat came so late."""
        self._worst_s = max(self._worst_s, seconds)
        if seconds > SLOW_S:
            logger.warning("Serve's controller did nothing for %.1f s", seconds)


class Warnings:
    """Says once that a process takes much memory, and again each time that it took twice as much.

    first_bytes: what is much.
    """

    def __init__(self, first_bytes: float) -> None:
        self._next_bytes: dict[str, float] = {}
        self._first_bytes = first_bytes

    def look(self, use: ProcessUse) -> None:
        """At what a process takes now."""
        next_bytes = self._next_bytes.get(use.name, self._first_bytes)
        if use.private_bytes < next_bytes:
            return
        logger.warning(
            "%s takes %.1f GiB of memory, %d files and %d threads; nothing replaces it: see "
            "docs/decisions/0020",
            use.name,
            use.private_bytes / GIB,
            use.files,
            use.threads,
        )
        self._next_bytes[use.name] = 2 * use.private_bytes


class _Pids:
    """Of controller and GCS; the GCS is looked for again when it was started anew.

    The raylet, which started this process, is of the same session as the cluster's own GCS; others
    may be on the machine.
    """

    def __init__(self) -> None:
        raylet = psutil.Process().parent()
        self._session = "" if raylet is None else _session_of(raylet)
        self._gcs: psutil.Process | None = None

    def by_name(self) -> Mapping[str, int]:
        if self._gcs is None or not self._gcs.is_running():
            self._gcs = next(filter(self._is_ours, psutil.process_iter()), None)
        found = {"controller": psutil.Process().pid}
        return found if self._gcs is None else {**found, "gcs": self._gcs.pid}

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.name() == GCS and _session_of(process) == self._session
        except psutil.NoSuchProcess:
            return False


def _session_of(process: psutil.Process) -> str:
    """The session that one of Ray's own processes was started for; empty for others."""
    try:
        words = process.cmdline()
    except psutil.AccessDenied:
        return ""
    return next((word for word in words if word.startswith(SESSION)), "")


async def _watch(pids: Callable[[], Mapping[str, int]]) -> None:
    warnings, answer = Warnings(FIRST_GIB * GIB), table.GCS_ANSWER.open()
    while True:
        for name, pid in (await asyncio.to_thread(pids)).items():
            if (use := use_of(pid, name)) is not None:
                warnings.look(use)
        asked_s = time.monotonic()
        await asyncio.to_thread(_internal_kv_exists, b"timbre")
        answered_s = time.monotonic() - asked_s
        answer.set(answered_s)
        if answered_s > SLOW_S:
            logger.warning("Ray's GCS took %.1f s to answer", answered_s)
        await asyncio.sleep(EVERY_S)
