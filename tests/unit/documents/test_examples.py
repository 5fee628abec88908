"""Every example of docs/ works, as it stands there: curl, Python and Node against the real HTTP.

The stages are fakes, so that all of them take seconds; tests/serve/one/api/test_documents.py runs
on a whole service those that need one, and with `exhaustive` all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from tests.cache_helpers import free_port
from tests.documents.examples import PAGES, Page
from tests.http_app import ServedApp
from tests.waiting import wait_until

pytestmark = [pytest.mark.unit, pytest.mark.slow]
NEEDS_STAGES = {"docs/jobs.md", "docs/marks.md", "README.md"}  # on the service in any case


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The HTTP surface on a port of this machine, and the folder of its store."""
    voices = tmp_path_factory.mktemp("store") / "voices"
    with served(ServedApp(cache={"url": str(voices), "l2": "off"})) as url:
        yield url, voices


@contextmanager
def served(app: ServedApp) -> Iterator[str]:
    """On an event loop of its own, so that examples may wait for it."""
    port = free_port()
    config = uvicorn.Config(lambda: app, factory=True, port=port, lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("name", sorted(set(PAGES) - NEEDS_STAGES))
def test_the_examples_of_a_page_work(name: str, service: tuple[str, Path], tmp_path: Path):
    url, voices = service
    if skipped := Page(name, tmp_path, url, voices).run_all():
        pytest.skip(f"{len(skipped)} examples did not run: {skipped[0]}")
