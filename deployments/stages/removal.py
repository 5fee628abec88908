"""Tells every process: routers and stages of a clip to remove, routers of a changed voice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.config.stages import Kind, Stage
from deployments.stages.replies import stage_errors
from pipeline.errors import StageUnavailableError, TimbreError
from pipeline.serving.clip_names import clip_name

logger = logging.getLogger(__name__)

FORGET_TIMEOUT_S = 30.0  # a removal waits for a running write, then for the store
CHANGE_TIMEOUT_S = 2.0  # a router that does not hear of a changed voice finds out by itself


class Removal:
    """Tells every router, and every replica that keeps voices, to forget a clip."""

    def __init__(self, stages: Mapping[Stage, DeploymentHandle], usual: str | None = None) -> None:
        """usual: the tenant without a key, by whose clips' digests alone stages know them."""
        self._usual = usual
        self._stages = {s: handle for s, handle in stages.items() if s.keeps_voices}

    async def everywhere(self, clip_digest: str, namespace: str | None = None) -> None:
        """Return when no process keeps or will store data of the clip.

        namespace: the tenant whose clip it is, None for the one without a key. Raises
        StageUnavailableError when a process may still keep some; a retry is safe.
        """
        whose = (clip_digest,) if namespace is None else (clip_digest, namespace)
        usual = namespace if self._usual is None else self._usual
        name = clip_name(clip_digest, namespace, usual or "")
        told = [_told(Kind.ROUTER, _routers(), "forget", *whose)]
        told += [
            _told(stage.key, handle, "forget", *(whose if _knows_tenants(stage) else (name,)))
            for stage, handle in self._stages.items()
        ]
        answers = await asyncio.gather(*told)
        if not all(answers):
            raise StageUnavailableError(
                "the clip could not be removed everywhere; ask again in a moment"
            )


class RoutersToldOfVoices:
    """See deployments.voices.enrolment.Routers."""

    def __init__(self, removal: Removal) -> None:
        self._removal = removal

    async def forget(self, clip_digest: str, namespace: str) -> None:
        """Everywhere."""
        await self._removal.everywhere(clip_digest, namespace)

    async def voice_changed(self, namespace: str, voice: str) -> None:
        """Word saves the others a moment; without it they find out by the store within a second."""
        change = ("voice_changed", namespace, voice)
        await _told(Kind.ROUTER, _routers(), *change, timeout_s=CHANGE_TIMEOUT_S)


def _knows_tenants(stage: Stage) -> bool:
    """Whether it is told a digest and a tenant; the others are told both in one name."""
    return stage.kind is Kind.JOBS


def _routers() -> DeploymentHandle:
    context = serve.get_replica_context()
    return serve.get_deployment_handle(context.deployment, context.app_name)


async def _told(
    stage: str,
    handle: DeploymentHandle,
    method: str,
    *what: object,
    timeout_s: float = FORGET_TIMEOUT_S,
) -> bool:
    try:
        with stage_errors(stage):
            await handle.broadcast(method, *what).results_async(timeout_s=timeout_s)
    except TimbreError:
        logger.exception("not every replica of the %s was told: %s", stage, method)
        return False
    return True
