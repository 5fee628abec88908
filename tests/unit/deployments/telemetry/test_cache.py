"""The cache's counters as metrics: what grew since the last look, and present sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cache_store.settings import CacheSettings
from cache_store.stats import CacheStats
from deployments.config.settings import Settings
from deployments.telemetry.cache import CacheMetrics
from deployments.telemetry.metrics import VOICE_CACHE
from deployments.voices.resolver import VoiceLibrary
from tests.unit.deployments.telemetry.conftest import Seen

pytestmark = pytest.mark.unit


@pytest.fixture
def stats() -> CacheStats:
    settings = Settings(cache=CacheSettings(url="none", l2="off"))
    return VoiceLibrary(settings, None).cache_stats()  # type: ignore[arg-type]


def test_counters_grow_by_what_came_since_the_last_look(seen: Seen, stats: CacheStats) -> None:
    counted = CacheMetrics(VOICE_CACHE)
    counted.publish(stats)
    assert seen["timbre_cache_computes"] == []
    for hits, computes, saved_s in ((2, 1, 0.5), (2, 1, 0.5), (5, 1, 2.0)):
        requests = {("voice", "l4", "hit"): hits}
        counted.publish(replace(stats, requests=requests, computes=computes, saved_s=saved_s))
    assert seen["timbre_cache_requests"] == [(2, "voice", "l4", "hit"), (3, "voice", "l4", "hit")]
    assert seen["timbre_cache_computes"] == [(1,)]
    assert seen["timbre_cache_saved_encode_seconds"] == [(0.5,), (1.5,)]


def test_sizes_and_tiers_are_as_they_are_now(seen: Seen, stats: CacheStats) -> None:
    CacheMetrics(VOICE_CACHE).publish(replace(stats, tiers={"l4": {"breaker": 1.0, "queued": 3.0}}))
    assert {tier for _, tier in seen["timbre_cache_bytes"]} == {"l1", "alias"}
    assert seen["timbre_cache_tier"] == [(1.0, "l4", "breaker"), (3.0, "l4", "queued")]
