"""What is seen of a service from beside: its caches' counts, its processes, its address."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from deployments.local.service import STATE, RunningService
from deployments.telemetry.processes import MIB
from load_tests.load.clients import Clock
from load_tests.load.place import local_only
from load_tests.load.watch import Sample, Watch, memory, root_of, saved_during, saved_of
from pipeline.errors import ConfigError
from tests.unit.load_tests.load.answered import use
from tests.unit.load_tests.load.servers import served

pytestmark = pytest.mark.unit


def samples(*mib: float) -> list[Sample]:
    return [Sample(float(i), None, [use(int(one * MIB))]) for i, one in enumerate(mib)]


def test_growth_is_that_after_the_warm_up() -> None:
    (llm,) = memory(samples(1, 50, 100, 100, 100, 100, 103, 103))["processes"]
    assert llm["growth"] == pytest.approx(0.03)
    assert llm["private_mib"] == [1, 50, 100, 100, 100, 100, 103, 103]
    assert (llm["files"], llm["threads"], llm["store_bytes"]) == (40, 20, 3 * MIB)
    (brief,) = memory(samples(*[100] * 7))["processes"]
    assert brief["growth"] is None, "too few to say"
    assert memory([]) == {"at_s": [], "processes": []}


def test_a_process_that_came_later_is_told_of_without_its_growth() -> None:
    looks = samples(*[100] * 8)
    looks[-1] = replace(looks[-1], uses=[*looks[-1].uses, use(5 * MIB, 8)])
    old, new = memory(looks)["processes"]
    assert (old["growth"], new["growth"]) == (0.0, None)
    assert new["private_mib"] == [None] * 7 + [5]


def test_the_processes_are_those_of_the_service_at_the_address(tmp_path: Path) -> None:
    url = "http://127.0.0.1:8123"
    assert root_of(url, tmp_path) is None
    pid = os.getpid()
    begun_s = psutil.Process().create_time()
    service = RunningService(pid, begun_s, "127.0.0.1", 8123, "serve.log")
    (tmp_path / "service.json").write_bytes(STATE.dump_json(service))
    assert root_of(url, tmp_path) == pid
    assert root_of("http://127.0.0.1:8000", tmp_path) is None, "another one"


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
        async with Watch(url, Clock(), 1.0, lambda: float(next(joules)), os.getpid()) as watch:
            pass
    assert [sample.saved_s for sample in watch.samples] == [0, 1]
    assert watch.spent.saved_s == 1
    assert os.getpid() in {one.pid for one in watch.samples[-1].uses}
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
