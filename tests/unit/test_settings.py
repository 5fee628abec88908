"""One settings tree: YAML, environment and tests read the same one, and mistakes stop the start."""

from __future__ import annotations

import pytest

from deployments.settings import Settings, load_settings
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
    ],
)
def test_an_unknown_key_is_refused_and_the_valid_ones_are_listed(args, where, valid):
    with pytest.raises(ConfigError, match=where) as caught:
        load_settings(args)
    assert valid in caught.value.message


def test_the_environment_wins_over_yaml_and_keeps_the_rest(monkeypatch):
    monkeypatch.setenv("TIMBRE_CACHE__URL", "memory://elsewhere")
    monkeypatch.setenv("TIMBRE_LLM__SLOTS", "3")
    settings = load_settings({"cache": {"url": "here", "l1_bytes": 7}, "llm": {"queue_size": 5}})
    assert settings.cache.url == "memory://elsewhere"
    assert settings.cache.l1_bytes == 7
    assert (settings.llm.slots, settings.llm.queue_size) == (3, 5)


@pytest.mark.parametrize("name", ["TIMBRE_CACHE__URI", "TIMBRE_SLOTS", "TIMBRE_LLM__SLOTS__X"])
def test_an_unknown_name_in_the_environment_is_refused(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=name):
        load_settings({})


def test_validation_runs_the_same_sources_as_the_constructor(monkeypatch):
    """Ray Serve builds the tree with model_validate, not with the constructor."""
    monkeypatch.setenv("TIMBRE_MODEL", "from-environment")
    assert Settings.model_validate({"model": "from-yaml"}).model == "from-environment"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"llm": {"credit_tokens": 5, "chunk_tokens": 15}}, "credit_tokens must be at least"),
        ({"llm": {"chunk_tokens": 7}}, "multiple of 5"),
        ({"vocoder": {"device": "cuda"}}, "needs gpu_memory_gib"),
        ({"limits": {"min_clip_s": 0}}, "greater than 0"),
    ],
)
def test_contradictions_are_refused(args, message):
    with pytest.raises(ConfigError, match=message):
        load_settings(args)
