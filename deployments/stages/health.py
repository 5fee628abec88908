"""Whether the service can serve: asks every stage, reports their gauges and the cache's state.

A report is public: it holds states and numbers; causes are in the log.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.config.stages import Stage
from deployments.stages.clients import RemoteStatus
from pipeline.errors import StageUnavailableError, TimbreError

logger = logging.getLogger(__name__)

WELL = ("ok", "asleep")  # states of a stage that serves, or will as soon as it is asked
REPORT_S = 1.0  # validity of a report: any number of probes costs one check a second


class Readiness:
    """Makes the report of /readyz. Use it from one event loop."""

    def __init__(
        self,
        stages: Mapping[Stage, DeploymentHandle],
        cache_report: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self._stages = {s.key: RemoteStatus(s.key, handle) for s, handle in stages.items()}
        self._cache_report = cache_report
        self._spared = frozenset(stage.key for stage in stages if stage.is_spared)
        self._sleepers = frozenset(stage.key for stage in stages if stage.sleeps)
        self._seen: set[str] = set()
        self._away_s: dict[str, float] = {}  # since when a stage does not answer
        self._looking: asyncio.Task[dict[str, Any]] | None = None
        self._looked_s = 0.0

    async def report(self) -> dict[str, Any]:
        """`ready` and why not, per stage its state and the gauges of each replica, the cache's.

        An unhealthy cache tier does not make the service unready: it works without it.
        age_s: age of the report, which is shared for a second.
        """
        if self._looking is None or self._is_stale(self._looking):
            self._looked_s = time.monotonic()
            # empty context: Serve cancels calls of a request whose caller disconnects
            self._looking = asyncio.create_task(self._look(), context=contextvars.Context())
        looking, looked_s = self._looking, self._looked_s
        seen = await asyncio.shield(looking)
        return {**seen, "age_s": round(time.monotonic() - looked_s, 3)}

    def _is_stale(self, look: asyncio.Task[dict[str, Any]]) -> bool:
        is_old = time.monotonic() - self._looked_s > REPORT_S
        return look.done() and (is_old or look.cancelled() or look.exception() is not None)

    async def _look(self) -> dict[str, Any]:
        names = list(self._stages)
        answers = await asyncio.gather(*(self._stage(name) for name in names))
        stages = dict(zip(names, answers, strict=True))
        ready = all(self._is_enough(name, stage["state"]) for name, stage in stages.items())
        cache = await self._cache_report()
        reasons = [
            f"{name}: {stage['why']}, {stage['away_s']:.0f} s ago"
            for name, stage in stages.items()
            if "why" in stage
        ]
        reasons += [f"cache: {tier} {why}" for tier, why in cache.get("set_aside", {}).items()]
        return {"ready": ready, "reasons": reasons, "stages": stages, "cache": cache}

    async def _stage(self, name: str) -> dict[str, Any]:
        try:
            replicas = await self._stages[name].replicas()
        except TimbreError as error:
            if name in self._sleepers and isinstance(error, StageUnavailableError):
                return {"state": "asleep", "replicas": []}
            if name not in self._away_s:
                logger.warning("the %s does not answer: %s (%r)", name, error, error.__cause__)
            away_s = time.monotonic() - self._away_s.setdefault(name, time.monotonic())
            return {
                "state": "unavailable",
                "error": f"no replica of the {name} answered",
                "why": error.message,
                "away_s": round(away_s, 1),
            }
        if self._away_s.pop(name, None) is not None:
            logger.info("the %s answers", name)
        self._seen.add(name)
        return {"state": "ok", "replicas": replicas}

    def _is_enough(self, name: str, state: str) -> bool:
        return state in WELL or (name in self._spared and name in self._seen)
