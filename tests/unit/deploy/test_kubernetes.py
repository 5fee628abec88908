"""The Kubernetes manifest, of every size: valid, nothing dropped in silence, and large enough."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr as derived,
)

from deploy.manifest import (
    GPU_STAGES,
    MANIFEST,
    SHIPPED_SIZE,
    manifest,
    serve_config,
    sizes,
    written,
)
from deployments.config.preflight import check_cluster, stuck_updates
from deployments.config.serve_config import ServeConfig, lint, read_serve_config
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
EVERY_SIZE = pytest.mark.parametrize("size", sizes())
# Of a RayService's pods, by KubeRay.
BY_KUBERAY = {
    "ray-head": {"ray.io/node-type": "head"},
    "ray-worker": {"ray.io/node-type": "worker"},
}


@cache
def documents(size: str) -> list[dict[str, Any]]:
    return manifest(size)


def service(size: str) -> dict[str, Any]:
    return documents(size)[0]["spec"]


def of_kind(size: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in documents(size) if one["kind"] == kind]


def pods(size: str) -> Iterator[dict[str, Any]]:
    """The templates of the RayService, and their labels with those that KubeRay adds."""
    cluster = service(size)["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        template = group["template"]
        name = template["spec"]["containers"][0]["name"]
        labels = {**template["metadata"]["labels"], **BY_KUBERAY[name]}
        yield {"labels": labels, "spec": template["spec"]}


def dropped(node: object, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Fields that the API server would drop: the schema does not know them."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or path.endswith(".template"):
        return
    if isinstance(node, list):
        for one in node:
            yield from dropped(one, schema.get("items", {}), path)
    elif isinstance(node, dict):
        known, other = schema.get("properties"), schema.get("additionalProperties")
        for key, value in node.items():
            if known is not None and key in known:
                yield from dropped(value, known[key], f"{path}.{key}")
            elif other is None and known is not None and not path.endswith(".metadata"):
                yield f"{path}.{key}"


@EVERY_SIZE
def test_the_ray_service_is_as_kuberays_schema_wants_it(size: str, shared_dir: Path) -> None:
    file = shared_dir / "reference" / "kuberay" / "rayservice_v1.schema.json"
    if not file.is_file():
        pytest.skip("the schema of KubeRay 1.7 is not here")
    schema = json.loads(file.read_text())
    jsonschema.Draft7Validator(schema).validate(documents(size)[0])
    assert not list(dropped(documents(size)[0], schema))


def test_a_field_that_would_be_dropped_is_seen(shared_dir: Path) -> None:
    file = shared_dir / "reference" / "kuberay" / "rayservice_v1.schema.json"
    if not file.is_file():
        pytest.skip("the schema of KubeRay 1.7 is not here")
    wrong = copy.deepcopy(documents(SHIPPED_SIZE)[0])
    wrong["spec"]["upgradeStrategy"]["maxSurge"] = 1
    wrong["spec"]["rayClusterConfig"]["workerGroupSpecs"][1]["minReplica"] = 1
    assert list(dropped(wrong, json.loads(file.read_text()))) == [
        ".spec.upgradeStrategy.maxSurge",
        ".spec.rayClusterConfig.workerGroupSpecs.minReplica",
    ]


@EVERY_SIZE
def test_all_else_is_as_kubernetes_wants_it(size: str) -> None:
    version = kubernetes_validate.latest_version()
    for one in documents(size)[1:]:
        kubernetes_validate.validate(one, version, strict=True)
    for pod in pods(size):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod["spec"]}
        kubernetes_validate.validate(whole, version, strict=True)


@EVERY_SIZE
def test_its_serve_config_passes_our_lint(size: str) -> None:
    config = yaml.safe_load(service(size)["serveConfigV2"])
    assert lint(config) == []
    assert config == serve_config(yaml.safe_load((ROOT / f"deploy/sizes/{size}.yaml").read_text()))


@EVERY_SIZE
def test_machines_hold_what_starts_an_update_of_it_and_the_most_of_it(
    size: str, tmp_path: Path
) -> None:
    config = written_config(size, tmp_path)
    least = nodes(size, "min_workers")
    check_cluster(config, least)
    assert stuck_updates(config, least) == []
    deployments = config.document["applications"][0]["deployments"]
    most = {one["name"]: one["autoscaling_config"]["max_replicas"] for one in deployments}
    requests = tuple(replace(one, replicas=most[one.name]) for one in config.resource_requests)
    check_cluster(replace(config, resource_requests=requests), nodes(size, "max_workers"))


def written_config(size: str, tmp_path: Path) -> ServeConfig:
    document = yaml.safe_load(service(size)["serveConfigV2"])
    document["applications"][0]["args"]["cluster"]["may_grow"] = False  # so that it is compared
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(document))
    return read_serve_config(path)


def nodes(size: str, how_many: str) -> list[dict[str, float]]:
    """Machines as Ray's own autoscaler reads them from the manifest."""
    cluster = {
        "metadata": {"name": "timbre", "namespace": "timbre"},
        "spec": service(size)["rayClusterConfig"],
    }
    types = derived(cluster)["available_node_types"]
    return [
        {name: float(amount) for name, amount in kind["resources"].items()}
        for kind in types.values()
        for _ in range(kind[how_many])
    ]


@EVERY_SIZE
def test_stages_on_gpus_go_where_l40s_are(size: str) -> None:
    config = yaml.safe_load(service(size)["serveConfigV2"])
    groups = {g["groupName"]: g for g in service(size)["rayClusterConfig"]["workerGroupSpecs"]}
    labels = groups["l40s"]["labels"]
    for stage in config["applications"][0]["deployments"]:
        wanted = stage["ray_actor_options"].get("label_selector", {})
        assert (stage["name"] in GPU_STAGES) == bool(wanted)
        assert wanted.items() <= labels.items()
    spec = groups["l40s"]["template"]["spec"]
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_what_is_shipped_is_the_small_size_as_serve_config_has_it() -> None:
    text = MANIFEST.read_text(encoding="utf-8")
    assert written(text) == text, "python -m deploy.manifest --write"
    assert [one for one in yaml.safe_load_all(text) if one] == manifest(SHIPPED_SIZE)


@EVERY_SIZE
def test_selectors_find_pods_and_ports_are_open(size: str) -> None:
    every = list(pods(size))
    for budget in of_kind(size, "PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"]
        assert any(wanted.items() <= pod["labels"].items() for pod in every), budget
    (policy, redis) = of_kind(size, "NetworkPolicy")
    wanted = policy["spec"]["podSelector"]["matchLabels"]
    assert all(wanted.items() <= pod["labels"].items() for pod in every)
    opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", ())}
    listens = {
        port["containerPort"]
        for pod in every
        for container in pod["spec"]["containers"]
        for port in container["ports"]
    }
    assert opened - {52365} <= listens
    (state,) = of_kind(size, "StatefulSet")
    labels = state["spec"]["template"]["metadata"]["labels"]
    assert redis["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    for pod in every:
        spread = pod["spec"].get("topologySpreadConstraints", ())
        for one in spread:
            assert one["labelSelector"]["matchLabels"].items() <= pod["labels"].items()


def test_state_tokens_and_upgrades_are_on() -> None:
    spec = service(SHIPPED_SIZE)
    cluster = spec["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["gcsFaultToleranceOptions"]["redisAddress"].startswith("timbre-redis:")
    assert spec["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"
    assert cluster["enableInTreeAutoscaling"], "an incremental upgrade needs it"
    assert "#5148" in MANIFEST.read_text()
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[2:]
    )
    assert cluster["rayVersion"] == pinned["ray"]


def test_nothing_runs_as_root_and_streams_may_end() -> None:
    config = yaml.safe_load(service(SHIPPED_SIZE)["serveConfigV2"])
    stages = config["applications"][0]["deployments"]
    longest_s = max(stage["graceful_shutdown_timeout_s"] for stage in stages)
    assert service(SHIPPED_SIZE)["rayClusterDeletionDelaySeconds"] > longest_s
    for pod in pods(SHIPPED_SIZE):
        assert pod["spec"]["terminationGracePeriodSeconds"] > longest_s
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        for container in pod["spec"]["containers"]:
            locked = container["securityContext"]
            assert locked["readOnlyRootFilesystem"]
            assert not locked["allowPrivilegeEscalation"]
            assert locked["capabilities"] == {"drop": ["ALL"]}
