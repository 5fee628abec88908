"""Removing a clip from every process: the routers with their caches, and what stages keep of it.

Knows no tier, and no route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.config.stages import Kind, Stage
from deployments.stages.clients import stage_errors
from pipeline.errors import StageUnavailableError, TimbreError
from pipeline.synthesis import speaker_name

logger = logging.getLogger(__name__)

FORGET_TIMEOUT_S = 30.0  # a removal waits for a write under way, and then for the store


class Removal:
    """Tells every replica to forget a clip: the routers, and stages that keep voices in memory."""

    def __init__(self, stages: Mapping[Stage, DeploymentHandle]) -> None:
        self._stages = {s.key: handle for s, handle in stages.items() if s.keeps_voices}

    async def everywhere(self, clip_digest: str) -> None:
        """Return when no process keeps anything of the clip, nor brings it back.

        Raises StageUnavailableError when one may; asking again is safe.
        """
        context = serve.get_replica_context()
        routers = serve.get_deployment_handle(context.deployment, context.app_name)
        voice = speaker_name(clip_digest)
        told = [_told(Kind.ROUTER, routers, clip_digest)]
        told += [_told(stage, handle, voice) for stage, handle in self._stages.items()]
        answers = await asyncio.gather(*told)
        if not all(answers):
            raise StageUnavailableError(
                "the clip could not be removed everywhere; ask again in a moment"
            )


async def _told(stage: str, handle: DeploymentHandle, name: str) -> bool:
    try:
        with stage_errors(stage):
            await handle.broadcast("forget", name).results_async(timeout_s=FORGET_TIMEOUT_S)
    except TimbreError:
        logger.exception("not every replica of the %s forgot a removed clip", stage)
        return False
    return True
