"""One list of stages, and everything that is told of one reads it there."""

from __future__ import annotations

import pytest
import yaml

from deployments.config.settings import Settings, load_settings
from deployments.config.stages import Kind, Stages
from tests.conftest import ROOT

pytestmark = pytest.mark.unit


def test_stages_follow_a_request_and_every_variant_is_one():
    settings = load_settings(
        {"llm": {"slots": 6, "queue_size": 9}, "llm_variants": {"awq": {"slots": 2}}}
    )
    stages = Stages.of(settings)
    names = [stage.name for stage in stages]
    assert names == ["Router", "Tokenizer", "LLM", "LLM-awq", "Vocoder", "Jobs"]
    assert [stage.key for stage in stages] == [name.lower() for name in names]
    assert list(stages.llms) == ["base", "awq"]
    assert [stage.kind for stage in stages.llms.values()] == [Kind.LLM] * 2
    assert [stage.work for stage in stages.llms.values()] == [6 + 9, 2 + 9]


def test_a_section_is_where_the_settings_describe_the_share():
    settings = load_settings({"llm_variants": {"awq": {"slots": 2}}})
    for stage in Stages.of(settings):
        assert bool(stage.section) == (stage.resources is not None)
        section, _, variant = stage.section.partition(".")
        described = getattr(settings, section) if section else None
        assert variant in described if variant else stage.resources is described


@pytest.mark.parametrize("name", ["serve_config.yaml", "serve_config.cpu.yaml"])
def test_the_shipped_configs_have_exactly_these(name: str):
    application = yaml.safe_load((ROOT / name).read_text())["applications"][0]
    stages = Stages.of(Settings(**application["args"]))
    assert {d["name"] for d in application["deployments"]} == {stage.name for stage in stages}
