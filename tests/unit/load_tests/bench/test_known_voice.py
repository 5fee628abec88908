"""The benchmarks of a known voice, as far as they run without a service."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deployments.config.serve_config import read_serve_config
from load_tests.bench.known_voice import routing, schedules
from load_tests.bench.known_voice.services import ROOT, _config, as_shipped
from pipeline.continuity import Continuity

pytestmark = pytest.mark.unit


def test_routing_by_voice_finds_more_and_loads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "REQUESTS", 1500)
    crowd = routing.Crowd(replicas=4, held=10, voices=40, rate_hz=4.0)
    found, above = routing.modelled(crowd, routing.by_voice)
    found_at_random, above_at_random = routing.modelled(crowd, routing.less_of_two)
    assert found > found_at_random + 0.05
    assert above <= above_at_random


COSTS = schedules.Costs(chunk_s=0.03, row_s=0.0024, step_s=0.0015, stream_s=0.00025)


def heard(at_s: Sequence[float], rows: tuple[int, ...], **how: Any) -> list[Continuity]:
    listeners = [schedules.Listener(begun_s, 120, [*rows]) for begun_s in at_s]
    return schedules.speak(listeners, COSTS, **how)


@pytest.mark.parametrize("rows", schedules.SCHEDULES.values())
def test_a_listener_alone_waits_for_a_chunk_and_hears_all(rows: tuple[int, ...]) -> None:
    (one,) = heard([0.0], rows, stretch=1.0, is_by_want=True)
    assert one.underruns == 0
    assert one.audio_s == pytest.approx(120 * 0.04)
    assert one.ttfa_s is not None
    assert one.ttfa_s > 0.018 + (rows[0] + 3) / 3 * 5 * COSTS.step(1) + COSTS.chunk(rows[0])


def test_those_who_come_later_begin_sooner_when_what_is_wanted_goes_first() -> None:
    at_s = [0.0, 0.35, 0.6, 0.8]
    in_turn, by_want = (
        heard(at_s, schedules.SHIPPED, stretch=1.7, is_by_want=is_by_want)
        for is_by_want in (False, True)
    )
    assert sum(one.underruns for one in by_want) == 0 < sum(one.underruns for one in in_turn)
    assert max(one.ttfa_s or 0 for one in by_want) < max(one.ttfa_s or 0 for one in in_turn)


def test_the_schedule_that_is_measured_is_the_shipped_one() -> None:
    shipped = read_serve_config(ROOT / "serve_config.cpu.yaml")
    assert shipped.settings.vocoder.chunk_rows == schedules.SHIPPED
    assert shipped.settings.vocoder.quiet_first_rows == schedules.QUIET_ROWS


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
