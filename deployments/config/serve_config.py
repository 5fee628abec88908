"""Reads a serve config and refuses what Ray Serve would silently ignore.

Knows the file, not the cluster.
Ray drops unknown keys under applications, deployments and http_options without a word; a misspelt
`max_ongoing_request` is then a service with the default of 5. This lint walks Ray's own models.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from deployments.config.named_things import unknown_names
from deployments.config.scaling_settings import POLICY
from deployments.config.settings import Settings, load_settings
from deployments.config.stages import Stages
from pipeline.errors import ConfigError

MAX_PORT = 65_535
# What Serve takes where http_options says nothing: every interface (ray.serve.schema).
SERVE_HOST, SERVE_PORT = "0.0.0.0", 8000  # noqa: S104 - looked at, not bound
CONTROL_CALLS = 4  # room in max_ongoing_requests for what must get through when a stage is full


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """Replicas of one stage at start, and the resources that each requests of the cluster."""

    name: str
    """Name of the deployment."""
    replicas: int
    """Replicas at start."""
    resources: Mapping[str, float]
    """Of each replica, by Ray's names: CPU, GPU."""
    surges: bool
    """An update starts a new replica before it stops an old one."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A serve config that passed the lint."""

    name: str
    """Name of its file."""
    settings: Settings
    """Its `args`."""
    resource_requests: tuple[ResourceRequest, ...]
    """One per stage."""
    document: Mapping[str, Any]
    """The file as read."""


def read_serve_config(path: Path) -> ServeConfig:
    """Read and lint. Raises ConfigError that lists every problem, with the valid names."""
    document = _document(path)
    problems = lint(document)
    if problems:
        raise ConfigError(f"{path.name}: " + "; ".join(problems))
    application = document["applications"][0]
    settings = load_settings(application.get("args", {}))
    requests = tuple(_request_of(deployment) for deployment in application["deployments"])
    return ServeConfig(path.name, settings, requests, document)


def read_settings(path: Path) -> Settings:
    """The `args` of a serve config alone, without Ray. Raises ConfigError that lists mistakes."""
    applications = _document(path).get("applications")
    if (
        not isinstance(applications, list)
        or len(applications) != 1
        or not isinstance(applications[0], dict)
    ):
        raise ConfigError(f"{path.name}: one application is expected")
    return load_settings(applications[0].get("args", {}))


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the serve config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a 13th month; ten thousand "["
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} does not hold a mapping")
    return document


def lint(document: Mapping[str, Any]) -> list[str]:
    """Every problem of a serve config, as sentences; empty when it is good."""
    from ray.serve.schema import ServeDeploySchema

    problems = [*_unknown_keys(document, ServeDeploySchema, ""), *_not_mappings(document)]
    problems = problems or _wrong_values(document, ServeDeploySchema, "")
    if problems:
        return problems
    applications = document.get("applications", [])
    if len(applications) != 1:
        return [f"one application is expected, found {len(applications)}"]
    return [*_lint_port(document), *_lint_application(applications[0])]


def _wrong_values(node: object, schema: type[BaseModel], path: str) -> list[str]:
    try:
        with warnings.catch_warnings():
            # metrics_interval_s: in favour of variables that Ray 2.60 does not read
            warnings.simplefilter("ignore", DeprecationWarning)
            schema.model_validate(node)
    except ValidationError as error:
        found = error.errors()
        return [f"{'.'.join([*path.split(), *map(str, e['loc'])])}: {e['msg']}" for e in found]
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # of what it imports
        return [f"{path or 'the config'}: {' '.join(str(error).split())}"]
    return []


def _not_mappings(document: Mapping[str, Any]) -> list[str]:
    """Ray's own models fail on these without saying where."""
    problems: list[str] = []
    for name in ("applications", "deployments"):
        parents = [document] if name == "applications" else document.get("applications", [])
        for parent in parents:
            items = parent.get(name, [])
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                return [f"{name}: a list of mappings is expected"]
    return problems


def _lint_port(document: Mapping[str, Any]) -> list[str]:
    port = int(document.get("http_options", {}).get("port", 0))
    return [] if 0 <= port <= MAX_PORT else [f"http_options.port is {port}, above {MAX_PORT}"]


def _unknown_keys(node: object, schema: object, path: str) -> Sequence[str]:
    model = _model_in(schema)
    if isinstance(node, list):
        item = next(iter(get_args(schema)), None)
        return [p for i, v in enumerate(node) for p in _unknown_keys(v, item, f"{path}[{i}]")]
    if model is None or not isinstance(node, Mapping):
        return []
    problems: list[str] = []
    for key, value in node.items():
        where = f"{path}.{key}".lstrip(".")
        if key not in model.model_fields:
            valid = ", ".join(sorted(model.model_fields))
            problems.append(f"{where}: unknown key; valid here: {valid}")
        elif key != "args":
            problems += _unknown_keys(value, model.model_fields[key].annotation, where)
    return problems


def _model_in(schema: object) -> type[BaseModel] | None:
    """The pydantic model behind an annotation such as `Model | dict | None`."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema
    if get_origin(schema) in {Union, types.UnionType}:
        for option in get_args(schema):
            if isinstance(option, type) and issubclass(option, BaseModel):
                return option
    return None


def _lint_application(application: Mapping[str, Any]) -> list[str]:
    from ray.serve.config import AutoscalingConfig

    try:
        settings = load_settings(application.get("args", {}))
    except ConfigError as error:
        return [f"args: {error.message}"]
    problems = [f"args.{problem}" for problem in unknown_names(settings)]
    deployments = {d["name"]: d for d in application.get("deployments", [])}
    stages = [stage.name for stage in Stages.of(settings)]
    problems += [
        f"deployments: no stage is named {name!r}; stages: {', '.join(stages)}"
        for name in sorted(deployments.keys() - set(stages))
    ]
    for name in stages:
        if name not in deployments:
            problems.append(f"deployments: {name} is missing; every stage states its resources")
        elif (scaling := deployments[name].get("autoscaling_config")) is None:
            problems.append(
                f"deployments.{name}: autoscaling_config is missing; adding one later restarts "
                "every replica, so pin with min_replicas = max_replicas instead"
            )
        else:
            where = f"deployments.{name}.autoscaling_config"
            problems += _wrong_values(scaling, AutoscalingConfig, where)
    if not problems:
        problems += _lint_room(deployments, settings)
        problems += _lint_shares(deployments, settings)
        problems += _lint_scaling(deployments, settings)
    return problems


def _lint_room(deployments: Mapping[str, Any], settings: Settings) -> list[str]:
    """Control calls (status, forget) must find room beside the most work a replica takes.

    Without it a full replica deadlocks, or looks dead.
    """
    return [
        f"deployments.{stage.name}.max_ongoing_requests is {found}; "
        f"its work and control calls need at least {least}"
        for stage in Stages.of(settings)
        if (found := deployments[stage.name].get("max_ongoing_requests", 0))
        < (least := stage.work + CONTROL_CALLS)
    ]


def _lint_shares(deployments: Mapping[str, Any], settings: Settings) -> list[str]:
    """No packing of replicas may overcommit a device.

    A replica's memory cap fits its fraction of it.
    """
    problems: list[str] = []
    device_gib = settings.cluster.gpu_device_gib
    for stage in Stages.of(settings):
        if (resources := stage.resources) is None:
            continue
        options = deployments[stage.name].get("ray_actor_options", {})
        num_gpus = float(options.get("num_gpus") or 0)
        where = f"deployments.{stage.name}.ray_actor_options.num_gpus"
        if resources.device == "cuda" and not num_gpus:
            problems.append(f"{where} is 0, but args say that the stage runs on cuda")
        if resources.device == "cpu" and num_gpus and not settings.cluster.rehearsal:
            problems.append(f"{where} is {num_gpus}, but args say that the stage runs on the CPU")
        allowed_gib = num_gpus * device_gib
        if (
            resources.device == "cuda"
            and num_gpus
            and (resources.gpu_memory_gib or 0) > allowed_gib
        ):
            problems.append(
                f"args.{stage.section}.gpu_memory_gib is {resources.gpu_memory_gib}, but "
                f"{num_gpus} of a device with {device_gib} GiB is {allowed_gib:.1f} GiB: "
                "replicas sharing it would overcommit its memory"
            )
    return problems


def _lint_scaling(deployments: Mapping[str, Any], settings: Settings) -> list[str]:
    """What `args.scaling` says must be what scales the stage."""
    problems: list[str] = []
    for stage in Stages.of(settings):
        scaling = deployments[stage.name]["autoscaling_config"]
        where = f"deployments.{stage.name}.autoscaling_config"
        policy = scaling.get("policy") or {}
        is_ours = policy.get("policy_function") == POLICY
        if scaling.get("min_replicas", 1) == 0 and not stage.sleeps:
            problems.append(
                f"{where}.min_replicas is 0, and the service does not do without the stage; only "
                "one for which args.scaling says sleeps: true (tokenizer, asr) may have no replica"
            )
        if is_ours and policy.get("policy_kwargs"):
            problems.append(f"{where}.policy.policy_kwargs: what it aims at is args.scaling")
        aims = getattr(settings.scaling, stage.kind.value, None)
        if aims is None:
            continue
        section = f"args.scaling.{stage.kind.value}"
        if aims != type(aims)() and not is_ours:
            problems.append(
                f"{section} has no effect: {where}.policy.policy_function must be {POLICY}"
            )
        if aims.spare >= (most := scaling.get("max_replicas", 1)):
            problems.append(f"{section}.spare is {aims.spare}, and {where}.max_replicas is {most}")
    return problems


def _request_of(deployment: Mapping[str, Any]) -> ResourceRequest:
    scaling = deployment["autoscaling_config"]
    replicas = scaling.get("initial_replicas") or scaling.get("min_replicas", 1)
    options = deployment.get("ray_actor_options", {})
    num_cpus = options.get("num_cpus")
    resources = {
        "CPU": 1.0 if num_cpus is None else float(num_cpus),
        "GPU": float(options.get("num_gpus") or 0),
    }
    resources |= {name: float(amount) for name, amount in options.get("resources", {}).items()}
    if accelerator := options.get("accelerator_type"):
        resources[f"accelerator_type:{accelerator}"] = 0.001  # what Ray itself reserves per replica
    used = {name: amount for name, amount in resources.items() if amount}
    surges = deployment.get("max_surge_percent", 0) > 0
    return ResourceRequest(deployment["name"], int(replicas), used, surges)


def find_config_file(name: str) -> Path:
    """The config file that `args.config_file` names: as given, else the one that timbre ships.

    Raises ConfigError when there is neither.
    """
    path = given_or_shipped(Path(name))
    if not path.is_file():
        raise ConfigError(
            f"args.config_file names {name}, which is not on this machine; give a path that the "
            "head can read, or leave the key out to skip the comparison with the cluster"
        )
    return path


def given_or_shipped(path: Path) -> Path:
    """`path` itself where there is such a file, else the shipped config of that name, if any.

    A checkout has them at its top, a wheel beside this module (setup.py).
    """
    here = Path(__file__).resolve().parent
    candidates = (path, here.parents[1] / path, here / path)
    return next((candidate for candidate in candidates if candidate.is_file()), path)
