"""Compares a serve config with the cluster: a missing GPU is then a message and not a hang."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deployments.serve_config import ServeConfig, StageAsk
from pipeline.errors import ConfigError

EPSILON = 1e-6


def check_cluster(config: ServeConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raises ConfigError when the replicas at start do not fit `nodes` (total resources of each).

    With `cluster.may_grow` the autoscaler may still add machines, so nothing is refused.
    """
    if config.settings.cluster.may_grow:
        return
    problems = [*_missing_totals(config.asks, nodes), *_unfit_replicas(config.asks, nodes)]
    if not problems:
        problems = _unpacked_gpus(config.asks, nodes)
    if problems:
        raise ConfigError(
            "the cluster does not have what the serve config asks: "
            + "; ".join(problems)
            + ". Lower the shares or replicas, add machines, "
            "or set args.cluster.may_grow when an autoscaler will"
        )


def live_nodes() -> list[dict[str, float]]:
    """Total resources of each live node of the cluster that this process is connected to."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _missing_totals(asks: Sequence[StageAsk], nodes: Sequence[Mapping[str, float]]) -> list[str]:
    problems: list[str] = []
    for resource in sorted({name for ask in asks for name in ask.resources}):
        wanting = [ask for ask in asks if resource in ask.resources]
        asked = sum(ask.replicas * ask.resources[resource] for ask in wanting)
        present = sum(node.get(resource, 0.0) for node in nodes)
        if asked > present + EPSILON:
            stages = ", ".join(
                f"{ask.name} {ask.replicas} × {ask.resources[resource]:g}" for ask in wanting
            )
            problems.append(f"{resource}: asked {asked:g} ({stages}), present {present:g}")
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
