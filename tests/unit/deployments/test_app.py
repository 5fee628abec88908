"""What stops a start reaches Serve as the one kind of error that it shows once, as a sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.exceptions import RayServeException

from deployments.app import build_app
from deployments.config import preflight
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
TWO_CORES = [{"CPU": 2.0}]


@pytest.fixture
def config(tmp_path, monkeypatch) -> dict[str, Any]:
    """The CPU config, for `refusal` below, on a machine with two cores."""
    monkeypatch.setattr(preflight, "live_nodes", lambda: TWO_CORES)
    document = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    document["applications"][0]["args"]["config_file"] = str(tmp_path / "config.yaml")
    return document


def built(document: dict[str, Any]) -> object:
    args = document["applications"][0]["args"]
    Path(args["config_file"]).write_text(yaml.safe_dump(document))
    return build_app(args)


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(RayServeException) as caught:
        built(document)
    said = str(caught.value)
    assert said.startswith("timbre cannot start: ")
    assert "\n" not in said
    return said


def test_a_good_config_builds(config):
    assert type(built(config)).__name__ == "Application"


@pytest.mark.parametrize("is_on", [True, False])
def test_routing_by_voice_is_a_setting_of_the_stage(config, is_on):
    args = config["applications"][0]["args"]
    args["llm"]["voice_affinity"] = args["vocoder"]["voice_affinity"] = is_on
    args["llm_variants"] = {}
    application: Any = built(config)
    router = application._bound_deployment
    _, tokenizer, llms, vocoder, _ = router.init_args
    routers = [
        stage._bound_deployment._deployment_config.request_router_config.request_router_class
        for stage in (tokenizer, *llms.values(), vocoder)
    ]
    assert [name.endswith(".VoiceRouter") for name in routers] == [False, is_on, is_on]


def test_a_setting_that_there_is_not(config):
    config["applications"][0]["args"]["llm"]["slotz"] = 1
    assert re.search("llm.slotz: unknown key; valid here: .*slots", refusal(config))


def test_a_setting_with_a_wrong_value(config):
    config["applications"][0]["args"]["llm"]["slots"] = "many"
    assert "llm.slots: Input should be a valid integer" in refusal(config)


def test_a_key_that_ray_would_ignore(config):
    config["applications"][0]["deployments"][2]["max_ongoing_request"] = 1
    said = refusal(config)
    assert re.search(
        r"deployments\[2\].max_ongoing_request: unknown key; valid here: .*max_queued", said
    )


def test_a_voice_that_is_not_listed(config):
    config["applications"][0]["args"]["voices"] = {"default": "arai"}
    assert refusal(config).count("voices.default: no voice is named 'arai'") == 1


def test_a_voice_that_is_not_listed_without_a_config_file():
    with pytest.raises(RayServeException, match=r"args\.voices\.default: no voice"):
        build_app({"voices": {"default": "arai"}})


def test_a_variable_that_is_a_misspelt_setting(config, monkeypatch):
    monkeypatch.setenv("TIMBRE_LLM__SLOTZ", "1")
    assert "TIMBRE_LLM__SLOTZ: no such setting" in refusal(config)


def test_a_config_file_that_is_not_there():
    with pytest.raises(RayServeException, match=r"args\.config_file names nowhere\.yaml"):
        build_app({"config_file": "nowhere.yaml"})


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(preflight, "live_nodes", lambda: TWO_CORES)
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    with pytest.raises(RayServeException, match=r"there is no GPU here, and serve_config\.yaml"):
        build_app(document["applications"][0]["args"])


def test_a_checkpoint_need_be_here_only_where_everything_runs_here(config, monkeypatch):
    config["applications"][0]["args"]["model"] = "/models/elsewhere"
    assert "args.model: no checkpoint directory at '/models/elsewhere'" in refusal(config)
    monkeypatch.setattr(preflight, "live_nodes", lambda: TWO_CORES * 2)
    built(config)
