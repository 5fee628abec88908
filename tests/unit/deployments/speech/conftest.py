"""Processes with libraries of speech."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.deployments.speech.processes import Process


@pytest.fixture
async def made():
    """Makes processes and closes them."""
    processes: list[Process] = []

    def make(*args: Any, **settings: Any) -> Process:
        processes.append(Process(*args, **settings))
        return processes[-1]

    yield make
    for process in processes:
        await process.library.close()
