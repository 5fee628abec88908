"""Whether the service can serve: asks every stage, reports their gauges and the cache's state.

Knows no route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.remote import replica_statuses
from deployments.voices import VoiceLibrary
from pipeline.errors import TimbreError


class Readiness:
    """Composes the report of /readyz."""

    def __init__(self, stages: Mapping[str, DeploymentHandle], voices: VoiceLibrary) -> None:
        self._stages = stages
        self._voices = voices

    async def report(self) -> dict[str, Any]:
        """`ready`, per stage the gauges of each replica or the error, and the cache's.

        A cache tier that is set aside does not make the service unready: it serves without it.
        """
        names = list(self._stages)
        answers = await asyncio.gather(*(self._stage(name) for name in names))
        stages = dict(zip(names, answers, strict=True))
        ready = all("error" not in stage for stage in answers)
        return {"ready": ready, "stages": stages, "cache": await self._voices.cache_report()}

    async def _stage(self, name: str) -> dict[str, Any]:
        try:
            return {"replicas": await replica_statuses(name, self._stages[name])}
        except TimbreError as error:
            return {"error": error.message}
