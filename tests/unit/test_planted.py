"""A secret is found wherever it is written; and those that we know of are written nowhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cache_store.keyring import Keyring
from cache_store.settings import CacheSettings
from deployments.config.settings import load_settings
from deployments.keys.secrets import digest_of, id_of, new_id, new_key
from pipeline.errors import ConfigError
from tests import planted

pytestmark = pytest.mark.unit
SECRET = planted.plant("this module's secret", "0123456789abcdef of test_planted")


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret of one test alone."""
    monkeypatch.setattr(planted, "_secrets", dict(planted._secrets))
    return planted.plant("another", "fedcba9876543210 of one test")


def test_a_secret_is_found_in_text_and_in_logs_across_blocks(
    another: str, tmp_path: Path, monkeypatch
):
    assert planted.leaks_in(f"Authorization: Bearer {another}") == ["another"]
    assert planted.leaks_in("nothing") == []
    monkeypatch.setattr(planted, "_BLOCK_BYTES", 10)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.log").write_text(f"x{another}y", encoding="utf-8")
    (tmp_path / "deep/token").write_text(another, encoding="utf-8")
    assert list(planted.leaks_below(tmp_path)) == [f"another in {tmp_path}/deep/a.log"]


def test_an_api_key_is_found_though_nobody_planted_it(tmp_path: Path, monkeypatch):
    key = new_key(new_id())
    assert planted.leaks_in(f"Authorization: Bearer {key}") == ["an API key"]
    assert planted.leaks_in(f"key {id_of(key)} was made, its digest is {digest_of(key)}") == []
    monkeypatch.setattr(planted, "_BLOCK_BYTES", 10)
    (tmp_path / "a.log").write_text(f"x{key}y", encoding="utf-8")
    assert list(planted.leaks_below(tmp_path)) == [f"an API key in {tmp_path}/a.log"]


def test_a_test_that_logs_one_fails(another: str):
    def report_of(text: str) -> pytest.TestReport:
        made = pytest.TestReport("a", ("", 0, ""), {}, "passed", None, "call")
        made.sections.append(("Captured log call", text))
        planted.refuse_leaks(made)
        return made

    assert report_of("fine").passed
    assert report_of(f"key={another}").failed


def test_a_keyring_says_nothing_of_its_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MAC_KEYS", f"k1:{SECRET}")
    for ring in (Keyring({"k1": SECRET}), Keyring.load(env="MAC_KEYS")):
        assert planted.leaks_in(f"{ring!r} {ring} {vars(ring)}") == []
    for wrong in (f"{SECRET}", f"a key id too long:{SECRET}", f"k1:{SECRET},{SECRET}"):
        monkeypatch.setenv("MAC_KEYS", wrong)
        with pytest.raises(ValueError, match=r"key id|items") as caught:
            Keyring.load(env="MAC_KEYS")
        assert planted.leaks_in(str(caught.value)) == []


def test_settings_say_nothing_of_a_buckets_secret(caplog: pytest.LogCaptureFixture):
    options = {"key": "an id", "secret": SECRET}
    settings = load_settings({"cache": {"url": "none", "storage_options": options}})
    logging.getLogger("deployments").warning("settings: %s", settings)
    assert planted.leaks_in(f"{settings!r} {settings}") == []
    assert planted.leaks_in(caplog.text) == []
    assert settings.cache.storage_options["secret"] == SECRET
    with pytest.raises(ConfigError) as caught:
        load_settings({"cache": {"url": "none", "storage_options": SECRET}})
    assert planted.leaks_in(str(caught.value)) == []


def test_an_address_carries_no_secret():
    """It is logged, and shown by commands."""
    with pytest.raises(ValueError, match="belong in the environment"):
        CacheSettings(url=f"s3://id:{SECRET}@bucket/voices")
