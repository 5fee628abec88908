"""What settings name must be there: voices, stores, checkpoints, keys."""

from __future__ import annotations

import re

import pytest
import yaml

from deployments.config.named_things import missing_here, unknown_names
from deployments.config.serve_config import lint
from deployments.config.settings import load_settings
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
LISTED = "listed voices: aria, bruno"


def test_the_defaults_name_what_is_there():
    assert unknown_names(load_settings({})) == []
    assert missing_here(load_settings({})) == []


@pytest.mark.parametrize("default", ["aria", "Aria", "alloy", "BRUNO"])
def test_the_default_voice_may_be_listed_or_an_alias(default):
    assert unknown_names(load_settings({"voices": {"default": default}})) == []


@pytest.mark.parametrize(
    "url", ["none", "voices", "~/v", "/v", "s3://b/p", "memory://v", "file:///v"]
)
def test_a_store_is_a_directory_or_a_url(url):
    assert unknown_names(load_settings({"cache": {"url": url}})) == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"voices": {"default": "arai"}}, f"voices.default: no voice is named 'arai'; {LISTED}"),
        ({"voices": {"default": ""}}, f"voices.default: no voice is named ''; {LISTED}"),
        ({"voices": {"aliases": {"hal": "brunno"}}}, f"aliases.hal: .*named 'brunno'; {LISTED}"),
        ({"voices": {"aliases": {"hal": "Bruno"}}}, f"aliases.hal: .*named 'Bruno'; {LISTED}"),
        ({"voices": {"aliases": {"Hal": "bruno"}}}, "aliases.Hal: .*lower case"),
        ({"cache": {"url": "s4://voices"}}, "cache.url: 's4://voices' has the scheme 's4'"),
        ({"cache": {"url": "S3://voices"}}, "cache.url: 'S3://voices' has the scheme 'S3'"),
    ],
)
def test_a_name_that_means_nothing_is_refused_by_the_lint(args, says):
    (problem,) = unknown_names(load_settings(args))
    assert re.search(says, problem)
    document = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    document["applications"][0]["args"] |= args
    assert lint(document) == [f"args.{problem}"]


def test_what_is_not_on_this_machine_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TIMBRE_HOME", str(tmp_path))
    monkeypatch.delenv("VOICE_KEYS", raising=False)
    settings = load_settings(
        {
            "model": "step-audio-editx",
            "llm_variants": {"awq": {"model": str(tmp_path)}, "int8": {"quantization": "int8"}},
            "cache": {"mac_keys_env": "VOICE_KEYS"},
        }
    )
    base, awq, keys = missing_here(settings)
    assert base.startswith("model: ")
    assert "run `timbre checkpoint download step-audio-editx`" in base
    assert awq.startswith(f"llm_variants.awq.model: {tmp_path} is not a complete checkpoint")
    assert keys.startswith("cache.mac_keys: environment variable VOICE_KEYS")


def test_what_marks_need_is_looked_for(tmp_path, monkeypatch: pytest.MonkeyPatch):
    files = {"c2pa_certificate": str(tmp_path / "chain.pem"), "c2pa_key": str(tmp_path / "key.pem")}
    certificate, key = missing_here(load_settings({"marks": files}))
    assert certificate.startswith("marks.c2pa_certificate: there is no file")
    assert key.startswith("marks.c2pa_key: there is no file")
    monkeypatch.setattr("deployments.config.named_things.find_spec", lambda _: None)
    (package,) = missing_here(load_settings({}))
    assert "resemble-perth" in package
    assert missing_here(load_settings({"marks": {"enabled": False}})) == []
