"""The recogniser as settings describe it: off unless asked for, and never without a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.exceptions import RayServeException

from deployments.app import build_app
from deployments.config.named_things import missing_here, unknown_names
from deployments.config.serve_config import lint
from deployments.config.settings import load_settings
from deployments.config.stages import Kind, Stages
from pipeline.errors import ConfigError
from pipeline.stepaudio.layout import CheckpointLayout
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
CONFIGS = ("serve_config.yaml", "serve_config.cpu.yaml")
ENTRY = re.compile(r"^( +)# (- name: ASR\n(?:\1# .*\n?)+)", re.MULTILINE)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A directory that passes for a FunASR model until it is loaded."""
    for name in ("config.yaml", "model.pt"):
        (tmp_path / name).touch()
    return str(tmp_path)


def switched_on(name: str, **asr: Any) -> dict[str, Any]:
    """A shipped config with its comment about ASR taken at its word."""
    text = (ROOT / name).read_text()
    found = ENTRY.search(text)
    assert found is not None
    entry = found[0].replace(f"{found[1]}# ", found[1])
    document = yaml.safe_load(text.replace(found[0], entry))
    document["applications"][0]["args"]["asr"] = {"enabled": True, **asr}
    return document


def test_it_is_off_unless_asked_for():
    stages = Stages.of(load_settings({}))
    assert stages.asr is None
    assert "ASR" not in {stage.name for stage in stages}
    for name in CONFIGS:
        args = yaml.safe_load((ROOT / name).read_text())["applications"][0]["args"]
        assert args["asr"] == {"enabled": False}


def test_it_is_a_stage_like_the_others(model: str):
    settings = load_settings({"asr": {"enabled": True, "model": model, "max_clips": 5}})
    stages = Stages.of(settings)
    assert stages.asr is not None
    assert list(stages)[-1] is stages.asr
    assert (stages.asr.name, stages.asr.kind, stages.asr.work) == ("ASR", Kind.ASR, 5)
    assert (stages.asr.section, stages.asr.resources) == ("asr", settings.asr)
    assert stages.asr.is_spared, "whoever tells the words does not need it"
    assert unknown_names(settings) == missing_here(settings) == []
    application: Any = build_app({"asr": {"enabled": True, "model": model}})
    bound = application._bound_deployment.init_kwargs["asr"]
    assert bound._bound_deployment.name == "ASR"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configs_say_how_to_deploy_it(name: str, model: str):
    document = switched_on(name, model=model)
    assert lint(document) == []
    options = next(
        one for one in document["applications"][0]["deployments"] if one["name"] == "ASR"
    )
    options["max_ongoing_requests"] = 19
    (problem,) = lint(document)
    assert "deployments.ASR.max_ongoing_requests is 19; its work and control calls" in problem


def test_one_that_is_not_deployed_is_missing(model: str):
    document = yaml.safe_load((ROOT / CONFIGS[1]).read_text())
    document["applications"][0]["args"]["asr"] = {"enabled": True, "model": model}
    assert any("deployments: ASR is missing" in problem for problem in lint(document))


def test_one_that_is_deployed_and_not_enabled_is_no_stage(model: str):
    document = switched_on(CONFIGS[1], model=model)
    document["applications"][0]["args"]["asr"] = {}
    (problem,) = lint(document)
    assert "no stage is named 'ASR'" in problem


def test_the_embedded_model_has_no_recogniser():
    document = switched_on(CONFIGS[1])
    (problem,) = lint(document)
    assert re.search(r"asr.enabled: the embedded model.* name a directory .* asr.model", problem)
    with pytest.raises(RayServeException, match=r"cannot start: args\.asr\.enabled: the embedded"):
        build_app({"asr": {"enabled": True}})


def test_a_directory_that_is_none_is_named(tmp_path: Path):
    for directory, says in ((tmp_path / "no", "no directory"), (tmp_path, "no FunASR model")):
        settings = load_settings({"asr": {"enabled": True, "model": str(directory)}})
        (problem,) = missing_here(settings)
        assert problem.startswith("asr.model: ")
        assert says in problem


def test_a_checkpoint_may_lack_the_recognisers_tokens(tmp_path: Path):
    layout = CheckpointLayout.expected(tmp_path)
    for path in (*layout.required(), layout.editx / "model.safetensors"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    settings = load_settings({"model": str(tmp_path), "asr": {"enabled": True}})
    assert unknown_names(settings) == []
    (problem,) = missing_here(settings)
    assert problem.startswith("asr.enabled: ")
    assert "tokens.json is missing" in problem
    assert "timbre checkpoint download" in problem
    layout.paraformer_tokens.touch()
    assert missing_here(settings) == []


def test_on_a_device_it_needs_a_share_that_holds_it(model: str):
    document = switched_on(CONFIGS[0], model=model, device="cuda", gpu_memory_gib=3)
    problems = lint(document)
    assert any("deployments.ASR.ray_actor_options.num_gpus is 0" in one for one in problems)
    deployed = next(
        one for one in document["applications"][0]["deployments"] if one["name"] == "ASR"
    )
    deployed["ray_actor_options"] |= {"num_gpus": 0.1, "accelerator_type": "L40S"}
    assert lint(document) == []


def test_segments_are_heard_only_where_a_recogniser_is_deployed() -> None:
    with pytest.raises(ConfigError, match=r"asr\.enabled"):
        load_settings({"long_text": {"listens": True}})
    settings = load_settings({"asr": {"enabled": True}, "long_text": {"listens": True}})
    assert settings.long_text.listens
