"""The HTTP application behind a real port, on a thread of its own: for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.jobs.runner import JobRunner
from deployments.jobs.speaking import SegmentSpeaker
from deployments.jobs.store import JobStore
from tests.http_app import HttpApp, running
from tests.job_runners import FreeRoad
from tests.planted import plant
from tests.uvicorn_server import uvicorn_serving

START_S = 30.0
ADMIN_KEY = plant("an operator's key", "an-admin-key-of-the-tests-own-0123456789")


class KeyedApp(HttpApp):
    """Keys are on, and somebody runs its jobs."""

    def __init__(self, directory: Path) -> None:
        key = directory / "admin.key"
        key.write_text(ADMIN_KEY)
        super().__init__(
            is_telling=True,
            cache={"url": str(directory / "store"), "l2": "off"},
            access={"keys": "on", "admin_key_file": str(key)},
            jobs={"lease_s": 0.3},
        )
        assert self.voices.shelf is not None
        store = JobStore(self.voices.shelf, self.settings.jobs.max_kept)
        speaker = SegmentSpeaker(self.settings, self.voices, self.speech)
        self.runner = JobRunner(self.settings.jobs, store, speaker, FreeRoad())

    async def _told(self, job: str) -> None:
        self.runner.poke(job)


@dataclass(slots=True)
class Served:
    """loop: that the application runs on."""

    app: KeyedApp
    url: str
    loop: asyncio.AbstractEventLoop


@contextmanager
def served(directory: Path) -> Iterator[Served]:
    """A KeyedApp that keeps everything in `directory`."""
    found: list[Served] = []
    is_up, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        app = KeyedApp(directory)
        async with running(app), uvicorn_serving(app.app) as port:
            jobs = asyncio.create_task(app.runner.run())
            found.append(Served(app, f"http://127.0.0.1:{port}", asyncio.get_running_loop()))
            is_up.set()
            await stop.wait()
            jobs.cancel()
            await asyncio.wait([jobs])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert is_up.wait(START_S)
        yield found[0]
    finally:
        if found:
            found[0].loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
