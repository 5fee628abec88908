"""The section about quotas: whose is whose, and that nobody has one by default."""

from __future__ import annotations

import pytest

from deployments.config.settings import load_settings
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit
ARGS = {
    "tenant": {"streams": 4},
    "tenants": {"acme": {"requests_per_minute": 100}},
    "key": {"audio_s_per_minute": 60.5},
    "keys": {"big": {"voices": 0}},
}


def test_nobody_has_a_quota_by_default():
    quotas = load_settings({}).quotas
    assert not quotas.is_set
    assert not quotas.of_tenant("shared").is_set
    assert not quotas.of_key("any").is_set


def test_whose_is_whose():
    quotas = load_settings({"quotas": ARGS}).quotas
    assert quotas.is_set
    assert quotas.of_tenant("other").streams == 4
    assert quotas.of_tenant("acme").streams is None
    assert quotas.of_key("small").audio_s_per_minute == 60.5
    assert quotas.of_key("big").voices == 0
    assert quotas.of_key("big").is_set
    assert not quotas.of_key("").is_set, "a request without a key has no key's quota"


def test_the_environment_sets_them_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TIMBRE_QUOTAS__TENANT__STREAMS", "7")
    assert load_settings({"quotas": ARGS}).quotas.of_tenant("other").streams == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": {"streams": 0}},
        {"tenant": {"requests": 5}},
        {"tenants": {"acme": {"voices": -1}}},
        {"alone_s": 0},
    ],
)
def test_mistakes_stop_the_start(wrong: dict[str, object]):
    with pytest.raises(ConfigError, match="quotas"):
        load_settings({"quotas": wrong})
