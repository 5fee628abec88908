"""Compares a serve config with the cluster, so that a missing GPU is an error, not a hang."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deployments.config.named_things import missing_here, unknown_names
from deployments.config.serve_config import (
    SERVE_HOST,
    ResourceRequest,
    ServeConfig,
    find_config_file,
    read_serve_config,
)
from deployments.config.settings import Settings, load_settings
from pipeline.errors import ConfigError

logger = logging.getLogger(__name__)

EPSILON = 1e-6
REFUSAL = "timbre cannot start: "  # prefix of the reason, in every log
CPU_CONFIG = "serve_config.cpu.yaml"


def checked_settings(args: Mapping[str, Any]) -> Settings:
    """Settings, checked against the cluster of this process.

    Raises SetupError with every mistake of the config, or with the resources that are missing.
    """
    settings = load_settings(dict(args))
    problems = [f"args.{problem}" for problem in unknown_names(settings)]
    if settings.config_file is not None:
        config = read_serve_config(find_config_file(settings.config_file))
        problems += unguarded(config.document, settings)
        nodes = live_nodes()
        check_cluster(config, nodes)
        for stuck in stuck_updates(config, nodes):
            logger.warning("%s", stuck)
        if len(nodes) == 1 and not settings.cluster.may_grow:
            problems += [f"args.{problem}" for problem in missing_here(settings)]
    if problems:
        raise ConfigError("; ".join(problems))
    if settings.cluster.rehearsal:
        logger.warning("a rehearsal: stages may hold shares of GPUs and compute on the CPU")
    return settings


def unguarded(document: Mapping[str, Any], settings: Settings) -> list[str]:
    """Why the service may not listen where the config says, as sentences: anybody could use it."""
    host = document.get("http_options", {}).get("host", SERVE_HOST)
    if settings.access.keys != "off" or _is_loopback(str(host)):
        return []
    return [
        f"http_options.host is {str(host)!r}, and whoever reaches this machine could use the "
        "service: set args.access.keys to on (timbre keys create makes the first), listen on "
        "127.0.0.1, or say off-on-purpose where something in front lets in whom it should"
    ]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_cluster(config: ServeConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raises ConfigError when the replicas at start do not fit `nodes` (total resources of each).

    With `cluster.may_grow` the autoscaler may still add machines, so nothing is refused.
    """
    if config.settings.cluster.may_grow:
        return
    gpus = _requested(config.resource_requests, "GPU")
    if gpus and not any(node.get("GPU") for node in nodes):
        raise ConfigError(
            f"there is no GPU here, and {config.name} asks for {gpus}; without one, {CPU_CONFIG} "
            f"runs (serve run {CPU_CONFIG}, or timbre up)"
        )
    if problems := _unmet(config.resource_requests, nodes):
        raise ConfigError(
            "the cluster does not have what the serve config asks: "
            + "; ".join(problems)
            + ". Lower the shares or replicas, add machines, "
            "or set args.cluster.may_grow when an autoscaler will; "
            "timbre up lets stages share the cores that there are"
        )


def stuck_updates(config: ServeConfig, nodes: Sequence[Mapping[str, float]]) -> list[str]:
    """Stages of which `nodes` cannot hold one more replica beside all that run at start.

    As sentences; none where the autoscaler may still add machines.
    """
    if config.settings.cluster.may_grow:
        return []
    requests = config.resource_requests
    return [
        f"an update of {request.name} starts its new replica beside the old one, and will wait "
        f"until there is room ({_shown(request.resources)}); max_surge_percent: 0 under "
        f"deployments.{request.name} stops the old one first"
        for request in requests
        if request.surges and _unmet([*requests, replace(request, replicas=1)], nodes)
    ]


def _unmet(requests: Sequence[ResourceRequest], nodes: Sequence[Mapping[str, float]]) -> list[str]:
    """Resources that `nodes` lack for the replicas at start, as sentences."""
    problems = [*_missing_totals(requests, nodes), *_unfit_replicas(requests, nodes)]
    return problems or _unpacked_gpus(requests, nodes)


def _requested(requests: Sequence[ResourceRequest], resource: str) -> str:
    """The requests for a resource at start, total and per stage; empty without any."""
    wanting = [request for request in requests if resource in request.resources]
    total = sum(request.replicas * request.resources[resource] for request in wanting)
    stages = ", ".join(
        f"{request.name} {request.replicas} × {request.resources[resource]:g}"
        for request in wanting
    )
    return f"{total:g} ({stages})" if total else ""


def live_nodes() -> list[dict[str, float]]:
    """Total resources of each live node of the cluster that this process is connected to."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _missing_totals(
    requests: Sequence[ResourceRequest], nodes: Sequence[Mapping[str, float]]
) -> list[str]:
    problems: list[str] = []
    for resource in sorted({name for request in requests for name in request.resources}):
        total = sum(request.replicas * request.resources.get(resource, 0.0) for request in requests)
        present = sum(node.get(resource, 0.0) for node in nodes)
        if total > present + EPSILON:
            problems.append(
                f"{resource}: asked {_requested(requests, resource)}, present {present:g}"
            )
    return problems


def _unfit_replicas(
    requests: Sequence[ResourceRequest], nodes: Sequence[Mapping[str, float]]
) -> list[str]:
    return [
        f"no node can hold a replica of {request.name}, which needs {_shown(request.resources)}"
        for request in requests
        if not any(_fits(request.resources, node) for node in nodes)
    ]


def _unpacked_gpus(
    requests: Sequence[ResourceRequest], nodes: Sequence[Mapping[str, float]]
) -> list[str]:
    """Fractions may fit in sum and still not pack: 3 × 0.6 needs three devices.

    First fit, largest first.
    """
    free = [1.0 for node in nodes for _ in range(int(node.get("GPU", 0)))]
    replicas = sorted(
        (
            (request.resources.get("GPU", 0.0), request.name)
            for request in requests
            for _ in range(request.replicas)
        ),
        reverse=True,
    )
    for share, name in replicas:
        if not 0 < share <= 1:
            continue
        for index, room in enumerate(free):
            if share <= room + EPSILON:
                free[index] = room - share
                break
        else:
            return [f"{name}'s share of {share:g} GPU does not fit any device beside the others"]
    return []


def _fits(resources: Mapping[str, float], node: Mapping[str, float]) -> bool:
    return all(node.get(name, 0.0) + EPSILON >= amount for name, amount in resources.items())


def _shown(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in resources.items())
