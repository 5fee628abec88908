"""Compares a serve config with the cluster: a missing GPU is then a message and not a hang."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deployments.config.named_things import missing_here, unknown_names
from deployments.config.serve_config import (
    ServeConfig,
    StageAsk,
    find_config_file,
    read_serve_config,
)
from deployments.config.settings import Settings, load_settings
from pipeline.errors import ConfigError

logger = logging.getLogger(__name__)

EPSILON = 1e-6
REFUSAL = "timbre cannot start: "  # in front of what stopped it, in every log
CPU_CONFIG = "serve_config.cpu.yaml"


def checked_settings(args: Mapping[str, Any]) -> Settings:
    """Settings of a service that the cluster of this process can run.

    Raises SetupError with every mistake of the config, or with what the cluster lacks.
    """
    settings = load_settings(dict(args))
    problems = [f"args.{problem}" for problem in unknown_names(settings)]
    if settings.config_file is not None:
        config = read_serve_config(find_config_file(settings.config_file))
        nodes = live_nodes()
        check_cluster(config, nodes)
        for stuck in stuck_updates(config, nodes):
            logger.warning("%s", stuck)
        if len(nodes) == 1 and not settings.cluster.may_grow:
            problems += [f"args.{problem}" for problem in missing_here(settings)]
    if problems:
        raise ConfigError("; ".join(problems))
    return settings


def check_cluster(config: ServeConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raises ConfigError when the replicas at start do not fit `nodes` (total resources of each).

    With `cluster.may_grow` the autoscaler may still add machines, so nothing is refused.
    """
    if config.settings.cluster.may_grow:
        return
    gpus = _asked(config.asks, "GPU")
    if gpus and not any(node.get("GPU") for node in nodes):
        raise ConfigError(
            f"there is no GPU here, and {config.name} asks for {gpus}; without one, {CPU_CONFIG} "
            f"runs (serve run {CPU_CONFIG}, or timbre up)"
        )
    if problems := _unmet(config.asks, nodes):
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
    asks = config.asks
    return [
        f"an update of {ask.name} starts its new replica beside the old one, and will wait until "
        f"there is room ({_shown(ask.resources)}); max_surge_percent: 0 under "
        f"deployments.{ask.name} stops the old one first"
        for ask in asks
        if ask.surges and _unmet([*asks, replace(ask, replicas=1)], nodes)
    ]


def _unmet(asks: Sequence[StageAsk], nodes: Sequence[Mapping[str, float]]) -> list[str]:
    """What `nodes` lack for the replicas at start, as sentences."""
    problems = [*_missing_totals(asks, nodes), *_unfit_replicas(asks, nodes)]
    return problems or _unpacked_gpus(asks, nodes)


def _asked(asks: Sequence[StageAsk], resource: str) -> str:
    """How much of a resource the replicas at start need, and which; empty when none does."""
    wanting = [ask for ask in asks if resource in ask.resources]
    total = sum(ask.replicas * ask.resources[resource] for ask in wanting)
    stages = ", ".join(
        f"{ask.name} {ask.replicas} × {ask.resources[resource]:g}" for ask in wanting
    )
    return f"{total:g} ({stages})" if total else ""


def live_nodes() -> list[dict[str, float]]:
    """Total resources of each live node of the cluster that this process is connected to."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _missing_totals(asks: Sequence[StageAsk], nodes: Sequence[Mapping[str, float]]) -> list[str]:
    problems: list[str] = []
    for resource in sorted({name for ask in asks for name in ask.resources}):
        total = sum(ask.replicas * ask.resources.get(resource, 0.0) for ask in asks)
        present = sum(node.get(resource, 0.0) for node in nodes)
        if total > present + EPSILON:
            problems.append(f"{resource}: asked {_asked(asks, resource)}, present {present:g}")
    return problems


def _unfit_replicas(asks: Sequence[StageAsk], nodes: Sequence[Mapping[str, float]]) -> list[str]:
    return [
        f"no node can hold a replica of {ask.name}, which needs {_shown(ask.resources)}"
        for ask in asks
        if not any(_fits(ask.resources, node) for node in nodes)
    ]


def _unpacked_gpus(asks: Sequence[StageAsk], nodes: Sequence[Mapping[str, float]]) -> list[str]:
    """Fractions may add up and still not pack: 3 × 0.6 needs three devices.

    First fit, largest first.
    """
    free = [1.0 for node in nodes for _ in range(int(node.get("GPU", 0)))]
    replicas = sorted(
        ((ask.resources.get("GPU", 0.0), ask.name) for ask in asks for _ in range(ask.replicas)),
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
