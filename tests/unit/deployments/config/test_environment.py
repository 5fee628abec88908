"""TIMBRE_* variables: settings, mistakes, our commands' own, and what others put there."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import typer.main
from typer.core import TyperGroup

from deployments.cli import app
from deployments.config import environment
from deployments.config.settings import Settings, load_settings
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def nothing_said_yet() -> None:
    environment._warn_of.cache_clear()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("TIMBRE_CACHE__URI", "no such setting; valid here: .*url"),
        ("timbre_cache__uri", "no such setting; valid here: .*url"),
        ("TIMBRE_LLM__PORT", "no such setting; valid here: .*slots"),
        ("TIMBRE_LLM__SLOTS__X", "no such setting"),
        ("TIMBRE_MODEL__NAME", "no such setting"),
        ("TIMBRE_LLM_SLOTS", "did you mean TIMBRE_LLM__SLOTS?"),
        ("TIMBRE_LLM___SLOTS", "did you mean TIMBRE_LLM__SLOTS?"),
        ("TIMBRE__MODEL", "did you mean TIMBRE_MODEL?"),
        ("TIMBRE_CONFIG__FILE", "did you mean TIMBRE_CONFIG_FILE?"),
        ("TIMBRE_CAHCE__URL", "did you mean the section cache?"),
        ("TIMBRE_TOKENISER__THREADS", "did you mean the section tokenizer?"),
    ],
)
def test_a_misspelt_setting_stops_the_start(monkeypatch, name, says):
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=f"{name}: {says}"):
        load_settings({})


def test_an_unknown_key_of_a_variant_stops_the_start(monkeypatch):
    monkeypatch.setenv("TIMBRE_LLM_VARIANTS__AWQ__SLOTZ", "1")
    with pytest.raises(ConfigError, match=r"llm_variants\.awq\.slotz: unknown key"):
        load_settings({})


def test_keys_of_maps_are_free(monkeypatch):
    monkeypatch.setenv("TIMBRE_VOICES__ALIASES__HAL", "bruno")
    monkeypatch.setenv("TIMBRE_LLM_VARIANTS__AWQ__SLOTS", "2")
    monkeypatch.setenv("TIMBRE_CACHE__STORAGE_OPTIONS__ANON", "true")
    settings = load_settings({})
    assert settings.voices.aliases["hal"] == "bruno"
    assert settings.llm_variants["awq"].slots == 2
    assert settings.cache.storage_options["anon"]


@pytest.mark.parametrize(
    "name",
    [
        f"TIMBRE_{service}{suffix}"
        for service in ("", "LLM_", "CACHE_", "MODEL_", "ROUTER_HEADLESS_", "A__B_")
        for suffix in (
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP_METRICS",
            "PORT",
            "PORT_8000_TCP",
            "PORT_8000_TCP_ADDR",
            "PORT_8000_UDP_PROTO",
            "PORT_8000_SCTP_PORT",
        )
    ],
)
def test_what_kubernetes_injects_is_left_alone(monkeypatch, caplog, name):
    monkeypatch.setenv(name, "tcp://10.0.0.1:8000")
    assert load_settings({}) == Settings()
    assert not caplog.records


@pytest.mark.parametrize(
    "name", ["TIMBRE_SLOTS", "TIMBRE_EDITOR", "TIMBRE_LOG_LEVEL", "TIMBRE_UI__THEME", "TIMBRE_"]
)
def test_another_programs_variable_is_warned_of_once(monkeypatch, caplog, name):
    monkeypatch.setenv(name, "1")
    with caplog.at_level(logging.WARNING):
        load_settings({})
        load_settings({})
    (record,) = caplog.records
    assert record.getMessage() == f"{name} in the environment is no setting of timbre's: ignored"


def variables_of_commands(command: object) -> Iterator[str]:
    for parameter in getattr(command, "params", ()):
        names = parameter.envvar or ()
        yield from [names] if isinstance(names, str) else names
    if isinstance(command, TyperGroup):
        for below in command.commands.values():
            yield from variables_of_commands(below)


def test_no_command_refuses_what_another_documents(monkeypatch, caplog):
    names = set(variables_of_commands(typer.main.get_command(app)))
    assert {"TIMBRE_API_KEY", "TIMBRE_CONFIG", "TIMBRE_CACHE_URL"} <= names
    for name in names:
        monkeypatch.setenv(name, "x")
    load_settings({})
    assert not caplog.records


def test_the_secret_of_webhooks_is_no_strangers_variable(monkeypatch, caplog):
    monkeypatch.setenv(load_settings({}).jobs.webhook_secret_env, "x")
    load_settings({})
    assert not caplog.records
