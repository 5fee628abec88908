"""What is seen of a service from beside: its caches' counts, its processes, its address."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from load_tests.load.clients import Clock
from load_tests.load.place import local_only
from load_tests.load.watch import Sample, Watch, growth, part_of, saved_during, saved_of
from pipeline.errors import ConfigError
from tests.unit.load_tests.load.servers import served

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("ray::ServeReplica:timbre:LLM", "LLM"),
        ("ray::ServeReplica:timbre:Vocoder.handle_request_streaming", "Vocoder"),
        ("ray::ProxyActor", "proxy"),
        ("ray::ServeController.listen_for_change", "controller"),
        ("/usr/lib/ray/core/src/ray/gcs/gcs_server --log_dir=x", "GCS"),
        ("/usr/lib/ray/core/src/ray/raylet/raylet --raylet_socket_name=x", "raylet"),
        ("ray::IDLE", None),
        ("python -m load_tests.load soak", None),
    ],
)
def test_a_process_is_known_by_its_title(command: str, part: str | None) -> None:
    assert part_of(command) == part


def samples(values: list[int], part: str = "LLM") -> list[dict[str, Any]]:
    return [{"held": {part: {"rss_bytes": value}}} for value in values]


def test_growth_is_that_after_the_warm_up() -> None:
    assert growth(samples([1, 50, 100, 100, 100, 100, 103, 103])) == pytest.approx({"LLM": 0.03})
    assert growth(samples([100] * 7)) == {}, "too few to say"


def test_a_part_that_was_not_there_all_the_time_is_left_out() -> None:
    looks = samples([100] * 8)
    looks[-1]["held"] = {"LLM": {"rss_bytes": 100}, "Jobs": {"rss_bytes": 5}}
    assert growth(looks) == {"LLM": 0.0}


def test_what_was_saved_is_the_services_count() -> None:
    assert saved_of({"saved_s": 2.5, "speech": {"enabled": False}}) == 2.5
    assert saved_of({"saved_s": 2.5, "speech": {"saved_s": 1.5}}) == 4.0
    assert saved_of({}) is None
    counted = [Sample(float(i), saved_s) for i, saved_s in enumerate((3.0, None, 4.0, 9.0))]
    assert saved_during(counted) == 6.0
    assert saved_during([*counted, Sample(4.0, 5.0)]) is None, "another router answered"
    assert saved_during([Sample(0.0, None)]) is None


async def test_a_run_is_watched_from_its_beginning_to_its_end() -> None:
    saved = iter(range(100))
    joules = iter(range(0, 1_000, 10))

    async def reply(_: web.Request) -> web.StreamResponse:
        return web.json_response({"saved_s": next(saved), "speech": {}})

    async with served(reply) as url:
        async with Watch(url, Clock(), 1.0, lambda: float(next(joules))) as watch:
            pass
    assert [sample.saved_s for sample in watch.samples] == [0, 1]
    assert watch.spent.saved_s == 1
    assert watch.spent.joules is not None
    assert watch.spent.joules > 0
    assert watch.spent.core_s is not None
    assert watch.spent.core_s >= 0


async def test_a_service_that_does_not_tell_is_loaded_all_the_same() -> None:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.Response(status=404)

    async with served(reply) as url:
        async with Watch(url, Clock(), 1.0) as watch:
            pass
    assert (watch.spent.saved_s, watch.spent.joules) == (None, None)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://127.8.9.1", "http://[::1]:80", "https://localhost:1"]
)
def test_load_goes_to_this_machine(url: str) -> None:
    assert local_only(url) == url


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:8000", "http://timbre.example", "http://127.0.0.1.example:80"]
)
def test_load_goes_elsewhere_only_when_that_is_meant(url: str) -> None:
    with pytest.raises(ConfigError, match="not this machine"):
        local_only(url)
    assert local_only(url, is_elsewhere=True) == url


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "soak"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        local_only(url, is_elsewhere=True)
