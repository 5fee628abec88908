"""Actors of the whole cluster that outlive the service which made them."""

from __future__ import annotations

from typing import Any

import ray


def detached_actor(of: type, name: str, namespace: str) -> Any:
    """The actor of this name in a namespace of Ray, made if need be.

    It takes no CPU of the plan, and is started again where it dies. Blocks. Raises RayError or
    ValueError.
    """
    options: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
    }
    return ray.remote(of).options(**options).remote()
