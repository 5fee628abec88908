"""How many CPU threads the stages of a local service use: never more than the cores there are.

Torch's threads wait for each other at every operation: where replicas together have more of them
than cores, each product waits for the slowest. A second thread of a stage costs a third to a half
more CPU on what is streamed (docs/decisions/0014), so none is added to what the config says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deployments.config.serve_config import ResourceRequest
from deployments.config.settings import Settings
from deployments.config.stages import Stages


def planned_threads(
    settings: Settings, requests: Sequence[ResourceRequest], cores: int
) -> Mapping[str, int]:
    """Threads of a replica by section of `args`, of the sections that say more than their share.

    All replicas at start that compute share the cores; each has one thread at least.
    """
    replicas = {request.name: request.replicas for request in requests}
    stages = [stage for stage in Stages.of(settings) if stage.resources is not None]
    share = max(1, cores // max(1, sum(replicas[stage.name] for stage in stages)))
    return {
        stage.section: share
        for stage in stages
        if stage.resources is not None and stage.resources.threads > share
    }


def with_planned_threads(
    document: Mapping[str, Any], planned: Mapping[str, int], notice: Callable[[str], None]
) -> Mapping[str, Any]:
    """The serve config with these threads; each change is said."""
    (application,) = document["applications"]
    args = dict(application.get("args", {}))
    for section, threads in planned.items():
        stated = args.get(section, {}).get("threads")
        if stated is None:  # of a variant, which has the language model's
            continue
        notice(f"{section}.threads is {stated}, and the cores here give each replica {threads}")
        args[section] = {**args[section], "threads": threads}
    return {**document, "applications": [{**application, "args": args}]}
