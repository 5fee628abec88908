"""The shipped serve configs are good, and what Ray would silently ignore is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from deployments.config import serve_config
from deployments.config.preflight import check_cluster, stuck_updates
from deployments.config.serve_config import (
    find_config_file,
    given_or_shipped,
    lint,
    read_serve_config,
)
from pipeline.errors import ConfigError
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
QUICK_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
CONFIGS = ("serve_config.yaml", "serve_config.cpu.yaml")
L40S = {"CPU": 16.0, "GPU": 1.0, "accelerator_type:L40S": 1.0}


@cache
def shipped(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def document(name: str = "serve_config.yaml") -> dict[str, Any]:
    return copy.deepcopy(shipped(name))


def deployment(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(d for d in config["applications"][0]["deployments"] if d["name"] == name)


def written(config: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.dump(config, Dumper=QUICK_DUMPER))
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configs_are_good(name):
    assert lint(document(name)) == []


def test_a_config_is_the_given_file_else_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = Path("serve_config.cpu.yaml")
    monkeypatch.chdir(tmp_path)
    assert given_or_shipped(name) == ROOT / name == find_config_file(str(name))
    package = tmp_path / "site" / "deployments" / "config"
    package.mkdir(parents=True)
    monkeypatch.setattr(serve_config, "__file__", str(package / "serve_config.py"))
    assert given_or_shipped(name) == name, "neither here nor shipped: what was asked is named"
    with pytest.raises(ConfigError, match=r"names serve_config\.cpu\.yaml, which is not on this"):
        find_config_file(str(name))
    (package / name).touch()  # as a wheel has it
    assert given_or_shipped(name) == package / name == find_config_file(str(name))
    name.touch()
    assert given_or_shipped(name) == name, "the user's own comes first"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_stream_may_finish_before_its_replica_is_stopped(name):
    config = document(name)
    longest_s = config["http_options"]["request_timeout_s"]
    for stage in ("Router", "LLM", "Vocoder"):
        assert deployment(config, stage)["graceful_shutdown_timeout_s"] > longest_s


@pytest.mark.parametrize("name", CONFIGS)
def test_an_update_starts_new_replicas_before_it_stops_old_ones(name):
    stages = document(name)["applications"][0]["deployments"]
    assert all(stage["max_surge_percent"] > 0 for stage in stages)


def test_production_shares_l40s_and_keeps_voices_in_s3():
    config = document()
    assert config["applications"][0]["args"]["cache"]["url"].startswith("s3://")
    for stage in ("Tokenizer", "LLM", "Vocoder"):
        options = deployment(config, stage)["ray_actor_options"]
        assert 0 < options["num_gpus"] < 1
        assert options["accelerator_type"] == "L40S"


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "http_option"),
        (("http_options",), "prot"),
        (("applications", 0), "import_paht"),
        (("applications", 0, "deployments", 1), "max_ongoing_request"),
        (("applications", 0, "deployments", 1), "numreplicas"),
        (("applications", 0, "deployments", 2, "autoscaling_config"), "min_replica"),
        (("applications", 0, "deployments", 2, "ray_actor_options"), "num_gpu"),
    ],
)
def test_unknown_keys_are_refused_at_every_level(path, key):
    config = document()
    node: Any = config
    for part in path:
        node = node[part]
    node[key] = 1
    problems = lint(config)
    assert any(f"{key}: unknown key" in problem for problem in problems)


def test_unknown_args_are_refused():
    config = document()
    config["applications"][0]["args"]["llm"]["slotz"] = 3
    assert any("llm.slotz: unknown key" in problem for problem in lint(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: deployment(c, "LLM").pop("autoscaling_config"), "autoscaling_config is missing"),
        (lambda c: deployment(c, "LLM").update(name="Lmm"), "no stage is named 'Lmm'"),
        (lambda c: deployment(c, "LLM").update(max_ongoing_requests=72), "need at least 76"),
        (lambda c: deployment(c, "LLM")["ray_actor_options"].update(num_gpus=0.3), "overcommit"),
        (lambda c: deployment(c, "LLM")["ray_actor_options"].update(num_gpus=0), "runs on cuda"),
        (lambda c: deployment(c, "LLM").update(num_replicas=2), "num_replicas"),
        (lambda c: deployment(c, "LLM").update(max_surge_percent=101), "max_surge_percent"),
    ],
)
def test_what_would_fail_later_is_refused_now(change, message):
    config = document()
    change(config)
    assert any(message in problem for problem in lint(config)), lint(config)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, the outer ones first."""
    items = list(node.items()) if isinstance(node, dict) else []
    items = list(enumerate(node)) if isinstance(node, list) else items
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def refusals(path: Path) -> list[str]:
    try:
        read_serve_config(path)
    except ConfigError as error:
        return [error.message]
    return []


WRONG = (None, "x", -1, {"a": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    "turn", [0, *(pytest.param(turn, marks=pytest.mark.exhaustive) for turn in range(1, 4))]
)
def test_a_wrong_value_anywhere_is_sentences(turn, tmp_path):
    """Either the place may have that value, or the lint says so: it never fails itself.

    Every place has one of the values; in all turns, each of them.
    """
    refused: list[str] = []
    for number, path in enumerate(places(document()), turn):
        config = document()
        node: Any = config
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = copy.deepcopy(WRONG[number % len(WRONG)])
        refused += refusals(written(config, tmp_path))
    assert len(refused) > 50
    assert not any("\n" in message for message in refused)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"applications: [", "not valid YAML: "),
        (b"a: b: c", "not valid YAML: "),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"", "does not hold a mapping"),
        (b"- 1", "does not hold a mapping"),
        (b"{}", "applications"),
        (b"applications: []", "one application is expected"),
    ],
)
def test_a_file_that_is_no_config_is_one_sentence(content, says, tmp_path):
    path = tmp_path / "serve_config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        read_serve_config(path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("scaling", "says"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas"),
        ({"min_replicas": "many"}, "min_replicas: Input should be a valid integer"),
        ({"max_replicas": 0}, "max_replicas: Input should be greater than 0"),
        (None, "autoscaling_config is missing"),
    ],
)
def test_what_ray_checks_only_while_deploying_is_refused_now(scaling, says):
    config = document()
    deployment(config, "LLM")["autoscaling_config"] = scaling
    (problem,) = lint(config)
    assert problem.startswith("deployments.LLM")
    assert says in problem


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_there_is_not_is_refused(port):
    config = document()
    config["http_options"]["port"] = port
    assert any("http_options.port is" in problem for problem in lint(config))


@pytest.mark.parametrize(
    ("stage", "section", "key"),
    [
        ("Router", "limits", "max_requests"),
        ("Tokenizer", "tokenizer", "max_clips"),
        ("Vocoder", "vocoder", "max_streams"),
        ("Vocoder", "vocoder", "queue_size"),
        ("LLM", "llm", "queue_size"),
    ],
)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_stage_keeps_room_for_control_calls(name, stage, section, key):
    """As much work as a stage takes never fills its replica."""
    config = document(name)
    room = deployment(config, stage)["max_ongoing_requests"]
    config["applications"][0]["args"][section][key] = room
    assert any(f"{stage}.max_ongoing_requests is {room}" in problem for problem in lint(config))


def with_variant(**deployed: Any) -> dict[str, Any]:
    """A second LLM, in 4 bits, with the first one's deployment options changed by `deployed`."""
    config = document()
    application = config["applications"][0]
    application["args"]["llm_variants"] = {"awq": {"quantization": "int4", "slots": 16}}
    another = {**copy.deepcopy(deployment(config, "LLM")), "name": "LLM-awq", **deployed}
    application["deployments"].append(another)
    return config


def test_each_variant_of_the_llm_is_a_stage():
    assert lint(with_variant()) == []
    lost = with_variant(name="LLM-bnb")
    assert any("no stage is named 'LLM-bnb'" in problem for problem in lint(lost))
    assert any("LLM-awq is missing" in problem for problem in lint(lost))
    crowded = with_variant(max_ongoing_requests=67)
    assert any("LLM-awq.max_ongoing_requests is 67" in problem for problem in lint(crowded))
    small = with_variant(ray_actor_options={"num_gpus": 0.3})
    assert any("args.llm_variants.awq.gpu_memory_gib is 20" in problem for problem in lint(small))


def test_a_missing_gpu_is_one_sentence_with_what_runs_instead(tmp_path):
    config = read_serve_config(written(document(), tmp_path))
    with pytest.raises(ConfigError) as caught:
        check_cluster(config, [{"CPU": 2.0}])
    assert caught.value.message == (
        "there is no GPU here, and serve_config.yaml asks for 1.65 (Tokenizer 1 × 0.15, "
        "LLM 2 × 0.5, Vocoder 2 × 0.25); without one, serve_config.cpu.yaml runs "
        "(serve run serve_config.cpu.yaml, or timbre up)"
    )


def test_too_few_gpus_are_a_message(tmp_path):
    config = read_serve_config(written(document(), tmp_path))
    with pytest.raises(ConfigError, match=r"GPU: asked 1.65 \(.*LLM 2 × 0.5.*present 1"):
        check_cluster(config, [{"CPU": 64.0}, L40S])


def test_too_few_cores_are_a_message(tmp_path):
    config = read_serve_config(written(document("serve_config.cpu.yaml"), tmp_path))
    with pytest.raises(ConfigError, match=r"CPU: asked 1.4 \(.*present 1.*timbre up lets stages"):
        check_cluster(config, [{"CPU": 1.0}])


def test_the_machines_of_cluster_yaml_are_enough(tmp_path):
    config = read_serve_config(written(document(), tmp_path))
    check_cluster(config, [{"CPU": 16.0}, L40S, L40S])


def test_fractions_that_add_up_but_do_not_pack_are_refused(tmp_path):
    raw = document()
    llm = deployment(raw, "LLM")
    llm["ray_actor_options"]["num_gpus"] = 0.7
    vocoder = deployment(raw, "Vocoder")
    vocoder["ray_actor_options"]["num_gpus"] = 0.4
    vocoder["autoscaling_config"]["min_replicas"] = 1
    config = read_serve_config(written(raw, tmp_path))
    with pytest.raises(ConfigError, match="does not fit any device"):
        check_cluster(config, [{"CPU": 64.0}, L40S, L40S])


def test_a_replica_that_no_node_can_hold_is_refused(tmp_path):
    raw = document("serve_config.cpu.yaml")
    deployment(raw, "LLM")["ray_actor_options"]["num_cpus"] = 3
    config = read_serve_config(written(raw, tmp_path))
    with pytest.raises(ConfigError, match="no node can hold a replica of LLM"):
        check_cluster(config, [{"CPU": 2.0}, {"CPU": 2.0}, {"CPU": 2.0}])


def test_an_autoscaling_cluster_may_still_grow(tmp_path):
    raw = document()
    raw["applications"][0]["args"]["cluster"]["may_grow"] = True
    check_cluster(read_serve_config(written(raw, tmp_path)), [{"CPU": 4.0}])


def test_the_cpu_config_fits_a_machine_with_two_cores(tmp_path):
    config = read_serve_config(written(document("serve_config.cpu.yaml"), tmp_path))
    check_cluster(config, [{"CPU": 2.0}])


def test_the_cpu_config_can_be_updated_on_a_machine_with_two_cores(tmp_path):
    config = read_serve_config(written(document("serve_config.cpu.yaml"), tmp_path))
    assert stuck_updates(config, [{"CPU": 2.0}]) == []


def test_an_update_without_room_for_another_replica_is_foreseen(tmp_path):
    config = read_serve_config(written(document("serve_config.cpu.yaml"), tmp_path))
    stuck = stuck_updates(config, [{"CPU": 1.5}])
    assert [line.partition(" starts")[0] for line in stuck] == [
        "an update of Tokenizer",
        "an update of LLM",
        "an update of Vocoder",
    ]
    assert "room (CPU 0.5)" in stuck[1]
    assert "max_surge_percent: 0 under deployments.LLM stops the old one first" in stuck[1]


def test_room_on_two_devices_is_no_room_for_a_larger_share(tmp_path):
    """0.35 of two devices is free, and no 0.5 of one."""
    config = read_serve_config(written(document(), tmp_path))
    (stuck,) = stuck_updates(config, [{"CPU": 16.0}, L40S, L40S])
    assert "an update of LLM" in stuck
    assert stuck_updates(config, [{"CPU": 16.0}, L40S, L40S, L40S]) == []


def test_a_stage_that_stops_first_and_a_cluster_that_grows_need_no_room(tmp_path):
    raw = document()
    deployment(raw, "LLM")["max_surge_percent"] = 0
    nodes = [{"CPU": 16.0}, L40S, L40S]
    assert stuck_updates(read_serve_config(written(raw, tmp_path)), nodes) == []
    deployment(raw, "LLM")["max_surge_percent"] = 100
    raw["applications"][0]["args"]["cluster"]["may_grow"] = True
    assert stuck_updates(read_serve_config(written(raw, tmp_path)), nodes) == []


def test_cluster_yaml_is_a_valid_launcher_file():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    types = cluster["available_node_types"]
    assert {"head", "cpu_pool", "l40s_pool"} == set(types)
    assert types["l40s_pool"]["resources"]["GPU"] == 1
    assert types["l40s_pool"]["node_config"]["InstanceType"].startswith("g6e.")
    assert all("ImageId" in kind["node_config"] for kind in types.values())
    assert any("boto3" in command for command in cluster["head_setup_commands"])
    assert sum(kind.get("min_workers", 0) for kind in types.values()) <= cluster["max_workers"]


def sleeping() -> dict[str, Any]:
    """A tokenizer that stops while nobody needs it."""
    config = document("serve_config.cpu.yaml")
    config["applications"][0]["args"]["scaling"]["tokenizer"] = {"sleeps": True}
    scaling = deployment(config, "Tokenizer")["autoscaling_config"]
    scaling |= {"min_replicas": 0, "initial_replicas": 1, "downscale_to_zero_delay_s": 600}
    return config


def test_a_tokenizer_may_have_no_replica():
    assert lint(sleeping()) == []


@pytest.mark.parametrize("stage", ["Router", "Tokenizer", "LLM", "Vocoder", "Jobs"])
def test_without_other_stages_the_service_would_never_be_ready(stage):
    """Nor may one be without replicas for which the settings do not say so."""
    config = document("serve_config.cpu.yaml")
    deployment(config, stage)["autoscaling_config"]["min_replicas"] = 0
    (problem,) = lint(config)
    assert problem.startswith(f"deployments.{stage}.autoscaling_config.min_replicas is 0")


def without_policy(config: dict[str, Any]) -> None:
    del deployment(config, "LLM")["autoscaling_config"]["policy"]


def with_kwargs(config: dict[str, Any]) -> None:
    scaling = deployment(config, "LLM")["autoscaling_config"]
    scaling["policy"] = {**scaling["policy"], "policy_kwargs": {"busy": 0.5}}


def misspelt(config: dict[str, Any]) -> None:
    named = {"policy_function": "deployments.scaling.policy:by_wrok"}
    deployment(config, "LLM")["autoscaling_config"]["policy"] = named


def nowhere(config: dict[str, Any]) -> None:
    named = {"policy_function": "deployments.scaling.polciy:by_work"}
    deployment(config, "LLM")["autoscaling_config"]["policy"] = named


def all_spare(config: dict[str, Any]) -> None:
    config["applications"][0]["args"]["scaling"]["llm"]["spare"] = 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_policy, "args.scaling.llm has no effect: deployments.LLM.autoscaling_config.pol"),
        (with_kwargs, "policy.policy_kwargs: what it aims at is args.scaling"),
        (misspelt, "by_wrok"),
        (nowhere, "deployments.scaling.polciy"),
        (all_spare, "args.scaling.llm.spare is 8, and deployments.LLM.autoscaling_config.max_re"),
    ],
)
def test_settings_of_scaling_that_nothing_heeds_are_refused(change, says):
    config = document()
    change(config)
    (problem,) = lint(config)
    assert says in problem


def test_a_config_of_before_scales_as_serve_does():
    config = document()
    del config["applications"][0]["args"]["scaling"]
    for stage in config["applications"][0]["deployments"]:
        stage["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 2}
    assert lint(config) == []


@pytest.mark.parametrize("name", CONFIGS)
def test_every_stage_with_a_model_scales_by_its_work_and_has_a_bound(name):
    config = document(name)
    for stage in ("Router", "Tokenizer", "LLM", "Vocoder"):
        scaling = deployment(config, stage)["autoscaling_config"]
        assert scaling["policy"] == {"policy_function": "deployments.scaling.policy:by_work"}
        assert config["applications"][0]["args"]["memory"][stage.lower()]["rss_gib"] > 0
        assert scaling["metrics_interval_s"] < scaling["upscale_delay_s"]


def test_a_rehearsal_lets_a_stage_on_the_cpu_hold_a_share_of_a_device(tmp_path):
    """And nothing else: the shares are compared with the machines all the same."""
    raw = document()
    args = raw["applications"][0]["args"]
    for stage in ("tokenizer", "llm", "vocoder"):
        args[stage]["device"] = "cpu"
    refused = [problem for problem in lint(raw) if "runs on the CPU" in problem]
    assert len(refused) == 3
    args["cluster"]["rehearsal"] = True
    config = read_serve_config(written(raw, tmp_path))
    check_cluster(config, [{"CPU": 16.0}, L40S, L40S])
    with pytest.raises(ConfigError, match="there is no GPU here"):
        check_cluster(config, [{"CPU": 64.0}])
    raw["applications"][0]["deployments"][2]["ray_actor_options"]["num_gpus"] = 0
    args["llm"]["device"] = "cuda"
    assert any("is 0, but args say" in problem for problem in lint(raw))
