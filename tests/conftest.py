"""Fixtures that all tests share."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

# Torch's threads sleep at a barrier instead of spinning: beside another test's, a spinning thread
# holds the core that the one it waits for needs. Read when torch is loaded, so before all imports.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest

from tests import planted
from tests.cache_helpers import S3Server, make_bucket, ministack

ROOT = Path(__file__).resolve().parents[1]
# Fixtures of services that stand beside another one, or follow it.
LATE = {"updatable", "later", "second"}
# Tests talk to this machine alone: a proxy of the environment is nothing to them or their children.
for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[variable]
# Without a GPU kernels run in Triton's interpreter; it has to be asked for before the import.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Half a million objects of libraries and tests stay: Python need not look for garbage there.

    A look at all of them takes half a second, and would be taken again and again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a folder, what kills the replicas of its service comes late, what needs a second one last.

    That one takes cores from all that runs beside it. The rehearsal is first: others run beside it.
    """

    def place(item: pytest.Item) -> tuple[bool, Path, bool, bool]:
        is_late = bool(LATE & set(getattr(item, "fixturenames", ())))
        is_other = item.get_closest_marker("rehearsal") is None
        kills = item.get_closest_marker("chaos") is not None
        return is_other, item.path.parent, is_late, kills

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that prints or logs a planted secret fails, whatever else it shows."""
    report = yield
    planted.refuse_leaks(report)
    return report


@pytest.fixture(scope="session", autouse=True)
def _logs_without_secrets() -> Iterator[None]:
    """When the last service is down: no log of the whole run holds a planted secret."""
    yield
    leaks = planted.leaks_of_the_run()
    assert not leaks, "\n".join(leaks)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The directory with golden files and clips: TIMBRE_SHARED, else beside the repository.

    Skips when absent.
    """
    directory = Path(os.environ.get("TIMBRE_SHARED", ROOT.parent / "shared"))
    if not directory.is_dir():
        pytest.skip(f"no shared data at {directory}")
    return directory


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on loopback that checks signatures, with a bucket and a user for it."""
    directory: Path = tmp_path_factory.mktemp("s3")
    with ministack(directory) as (endpoint, _):
        yield make_bucket(endpoint, "voices")


@pytest.fixture
async def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock jumps to the next timer instead of waiting: exact, however busy the machine.

    For what waits on the loop alone: threads and sockets would get no time to answer.
    """
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    select, now_s = selector.select, [time.monotonic()]

    def jump(timeout_s: float | None = None) -> list[Any]:
        if timeout_s is None:  # no timer: only an event can go on
            return select(None)
        ready = select(0)
        if not ready:
            now_s[0] += timeout_s
        return ready

    monkeypatch.setattr(selector, "select", jump)
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])
