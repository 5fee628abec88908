"""The replicas of the stage that this process is a replica of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.scaling.memory import MemoryState

logger = logging.getLogger(__name__)

TIMEOUT_S = 2.0


def own_name() -> str:
    """The id of this replica."""
    return serve.get_replica_context().replica_id.unique_id


async def memory_of_others() -> Sequence[MemoryState]:
    """What the other running replicas of this stage tell of their memory; without those silent."""
    context = serve.get_replica_context()
    handle = _handle(context.deployment, context.app_name)
    try:
        answers = await handle.broadcast("memory_state").results_async(
            timeout_s=TIMEOUT_S, return_exceptions=True
        )
    except (RayError, RayServeException, TimeoutError) as error:
        logger.info("no replica of %s told of its memory: %r", context.deployment, error)
        return []
    told = [answer for answer in answers if isinstance(answer, MemoryState)]
    return [one for one in told if one.replica != context.replica_id.unique_id]


@cache
def _handle(deployment: str, app_name: str) -> DeploymentHandle:
    """Made by the few replicas that ask; a handle costs a long poll for as long as it is there."""
    return serve.get_deployment_handle(deployment, app_name)
