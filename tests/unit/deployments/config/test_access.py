"""Keys are off only where nobody else reaches the service; a mistake in the section is said."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from ray.serve.schema import HTTPOptionsSchema

from deployments.config import preflight
from deployments.config.preflight import checked_settings, unguarded
from deployments.config.serve_config import SERVE_HOST, SERVE_PORT
from deployments.config.settings import load_settings
from pipeline.errors import ConfigError
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
CPU = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
EVERYWHERE = "0.0.0.0"  # noqa: S104 - refused
OIDC = {
    "issuer": "https://id.example",
    "audience": "timbre",
    "jwks_url": "https://id.example/keys",
}


def document(host: str | None, **access: Any) -> dict[str, Any]:
    config = copy.deepcopy(CPU)
    config["http_options"].pop("host")
    if host is not None:
        config["http_options"]["host"] = host
    if access:
        config["applications"][0]["args"]["access"] = access
    return config


def problems(config: dict[str, Any]) -> list[str]:
    return unguarded(config, load_settings(config["applications"][0]["args"]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_on_loopback_no_keys_are_needed(host):
    assert problems(document(host)) == []


@pytest.mark.parametrize("host", [None, EVERYWHERE, "::", "", "10.0.0.7", "a.name", "203.0.113.7"])
def test_elsewhere_keys_or_the_word_are(host):
    (problem,) = problems(document(host))
    assert "off-on-purpose" in problem
    assert problems(document(host, keys="on")) == []
    assert problems(document(host, keys="off-on-purpose")) == []


def test_where_no_host_is_named_it_is_the_one_that_serve_takes() -> None:
    options = HTTPOptionsSchema()
    assert (options.host, options.port) == (SERVE_HOST, SERVE_PORT)


def test_start_up_refuses_it(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "live_nodes", lambda: [{"CPU": 64.0}])
    path = tmp_path / "open.yaml"
    config = document(EVERYWHERE)
    config["applications"][0]["args"]["config_file"] = str(path)
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"http_options\.host is '0\.0\.0\.0'.*access\.keys"):
        checked_settings(config["applications"][0]["args"])


def test_the_shipped_configs_are_guarded():
    for name in ("serve_config.yaml", "serve_config.cpu.yaml"):
        config = yaml.safe_load((ROOT / name).read_text())
        assert problems(config) == []


@pytest.mark.parametrize(("word", "means"), [(True, "on"), (False, "off"), ("on", "on")])
def test_yamls_words_are_words(word, means):
    assert load_settings({"access": {"keys": word}}).access.keys == means


@pytest.mark.parametrize(
    ("access", "says"),
    [
        ({"keys": "yes"}, "access.keys"),
        ({"admin_key_file": "x"}, "counts only with access.keys: on"),
        ({"keys": "on", "admin_key_file": "x", "admin_key_env": "Y"}, "one too many"),
        ({"keys": "on", "oidc": OIDC | {"jwks_url": "http://id.example/keys"}}, "https"),
        ({"keys": "on", "oidc": OIDC | {"jwks_url": "file:///etc/keys"}}, "https"),
        ({"keys": "on", "oidc": OIDC | {"algorithms": ["HS256"]}}, "algorithms"),
        ({"keys": "on", "oidc": OIDC | {"algorithms": ["none"]}}, "algorithms"),
        ({"keys": "on", "oidc": OIDC | {"algorithms": []}}, "algorithms"),
        ({"keys": "on", "oidc": OIDC | {"audience": ""}}, "audience"),
    ],
)
def test_a_mistake_is_said(access, says):
    with pytest.raises(ConfigError, match=says):
        load_settings({"access": access})


def test_keys_need_a_store():
    with pytest.raises(ConfigError, match=r"cache\.url is none"):
        load_settings({"access": {"keys": "on"}, "cache": {"url": "none"}})
