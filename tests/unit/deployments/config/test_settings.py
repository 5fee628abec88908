"""One settings tree: YAML, environment and tests read the same one, and mistakes stop the start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from deployments.config.session_settings import TELL_BYTES
from deployments.config.settings import Settings, Strict, load_settings
from deployments.config.stage_settings import LLMVariant, VocoderSettings
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit


def test_defaults_need_nothing():
    assert load_settings({}).model == "tiny"


@pytest.mark.parametrize(
    ("args", "where", "valid"),
    [
        ({"modle": "tiny"}, "modle: unknown key", "model"),
        ({"llm": {"slotz": 4}}, "llm.slotz: unknown key", "slots"),
        ({"cache": {"uri": "x"}}, "cache.uri: unknown key", "url"),
        ({"llm_variants": {"awq": {"slotz": 1}}}, "llm_variants.awq.slotz: unknown key", "slots"),
        (
            {"text": {"pronunciations": [{"written": "a", "said": "b"}, {"as": "b"}]}},
            r"text\.pronunciations\.1\.as: unknown key",
            "case_sensitive, language, regex, said, written",
        ),
    ],
)
def test_an_unknown_key_is_refused_and_the_valid_ones_are_listed(args, where, valid):
    with pytest.raises(ConfigError, match=where) as caught:
        load_settings(args)
    assert valid in caught.value.message


def test_a_wrong_value_in_a_list_says_what_is_meant():
    with pytest.raises(ConfigError, match=r"pronunciations\.0\.language: .*texts of this language"):
        load_settings(
            {"text": {"pronunciations": [{"written": "a", "said": "b", "language": "x"}]}}
        )


def test_the_environment_wins_over_yaml_and_keeps_the_rest(monkeypatch):
    monkeypatch.setenv("TIMBRE_CACHE__URL", "memory://elsewhere")
    monkeypatch.setenv("TIMBRE_LLM__SLOTS", "3")
    settings = load_settings({"cache": {"url": "here", "l1_bytes": 7}, "llm": {"queue_size": 5}})
    assert settings.cache.url == "memory://elsewhere"
    assert settings.cache.l1_bytes == 7
    assert (settings.llm.slots, settings.llm.queue_size) == (3, 5)


def test_a_section_in_one_variable_that_is_not_json_is_refused(monkeypatch):
    monkeypatch.setenv("TIMBRE_LLM", "slots=3")
    with pytest.raises(ConfigError, match=r'"llm".*not valid JSON'):
        load_settings({})


def test_validation_runs_the_same_sources_as_the_constructor(monkeypatch):
    """Ray Serve builds the tree with model_validate, not with the constructor."""
    monkeypatch.setenv("TIMBRE_MODEL", "from-environment")
    assert Settings.model_validate({"model": "from-yaml"}).model == "from-environment"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"llm": {"chunk_tokens": 7}}, "multiple of 5"),
        ({"vocoder": {"device": "cuda"}}, "needs gpu_memory_gib"),
        ({"limits": {"min_clip_s": 0}}, "greater than 0"),
        ({"sessions": {"window_bytes": TELL_BYTES}}, rf"window_bytes.*greater than {TELL_BYTES}"),
        ({"llm_variants": {"base": {}}}, "choose other names"),
        ({"llm_variants": {"AWQ 4": {}}}, "should match pattern"),
    ],
)
def test_contradictions_are_refused(args, message):
    with pytest.raises(ConfigError, match=message):
        load_settings(args)


def test_a_window_is_more_than_what_the_proxy_tells_of_at_a_time():
    args = {"sessions": {"window_bytes": TELL_BYTES + 1}}
    assert load_settings(args).sessions.window_bytes == TELL_BYTES + 1


def test_a_variant_is_the_llm_but_for_what_it_says():
    settings = load_settings(
        {
            "model": "/models/base",
            "llm": {"slots": 6, "queue_size": 9, "quantization": "int8"},
            "llm_variants": {"awq": {"model": "/models/awq"}, "bnb": {"quantization": "int4"}},
        }
    )
    assert settings.llm_of("base") == ("/models/base", settings.llm)
    model, awq = settings.llm_of("awq")
    assert (model, awq.slots, awq.queue_size, awq.quantization) == ("/models/awq", 6, 9, "none")
    model, bnb = settings.llm_of("bnb")
    assert (model, bnb.quantization) == ("/models/base", "int4")


def sections(tree: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield tree
    for field in tree.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Strict):
                yield from sections(kind)


def test_every_setting_is_described_in_the_schema():
    definitions = Settings.model_json_schema()["$defs"]
    found = list(sections(Settings))
    assert {LLMVariant, VocoderSettings} < set(found)
    for section in found[1:]:
        for name, described in definitions[section.__name__]["properties"].items():
            assert described["description"].endswith("."), f"{section.__name__}.{name}"


def test_a_mistake_says_what_the_setting_is():
    with pytest.raises(ConfigError) as caught:
        load_settings({"llm": {"slots": "many"}, "llm_variants": {"awq": {"gpu_memory_gib": 0}}})
    assert "llm.slots: Input should be a valid integer" in caught.value.message
    assert "(Requests decoded together)" in caught.value.message
    assert "(Memory cap of one replica on a GPU)" in caught.value.message
