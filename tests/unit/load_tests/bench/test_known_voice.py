"""The benchmarks of a known voice, as far as they run without a service."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from deployments.config.serve_config import read_serve_config
from load_tests.bench.known_voice import routing
from load_tests.bench.known_voice.services import ROOT, _config, as_shipped

pytestmark = pytest.mark.unit


def test_routing_by_voice_finds_more_and_loads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "REQUESTS", 1500)
    crowd = routing.Crowd(replicas=4, held=10, voices=40, rate_hz=4.0)
    found, above = routing.modelled(crowd, routing.by_voice)
    found_at_random, above_at_random = routing.modelled(crowd, routing.less_of_two)
    assert found > found_at_random + 0.05
    assert above <= above_at_random


@pytest.mark.parametrize("is_by_voice", [True, False])
def test_the_services_config_is_a_good_one(tmp_path: Path, is_by_voice: bool) -> None:
    change = partial(routing.two_of_each, is_by_voice=is_by_voice)
    path = tmp_path / "config.yaml"
    path.write_text(_config(ROOT, tmp_path, 8123, change))
    config = read_serve_config(path)
    replicas = {request.name: request.replicas for request in config.resource_requests}
    assert replicas == {"Router": 1, "Tokenizer": 1, "LLM": 2, "Vocoder": 2, "Jobs": 1}
    assert config.settings.vocoder.voice_affinity is is_by_voice
    assert config.settings.cache.url == str(tmp_path / "voices")
    assert not config.settings.speech_cache.enabled


def test_a_config_that_is_not_changed_is_the_shipped_one_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(_config(ROOT, tmp_path, 8123, as_shipped))
    shipped = read_serve_config(ROOT / "serve_config.cpu.yaml")
    assert read_serve_config(path).settings.vocoder == shipped.settings.vocoder
