"""Where the small program is started, and a process that is none of ours."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local import process as local_process
from deployments.local import service
from deployments.local.service import LocalService
from tests.unit.deployments.local.fake_service import FAKE_SERVE


@pytest.fixture
def state(tmp_path, monkeypatch) -> Iterator[Path]:
    """A state directory where `timbre up` starts the program above; nothing of it is left."""
    raylet = tmp_path / "ray" / "raylet"
    raylet.parent.mkdir()
    raylet.symlink_to("/bin/sleep")
    program = tmp_path / "fake_serve.py"
    program.write_text(textwrap.dedent(FAKE_SERVE))
    monkeypatch.setenv("FAKE_RAYLET", str(raylet))
    monkeypatch.setattr(local_process, "SERVE_COMMAND", (sys.executable, str(program)))
    monkeypatch.setattr(service, "START_TIMEOUT_S", 30.0)
    monkeypatch.setattr(service, "POLL_S", 0.02)
    monkeypatch.setenv("HOME", str(tmp_path))  # the token of Ray is made there
    for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "state dir"
    yield directory
    LocalService(directory).stop(drain_s=0.0)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours, and leads a session."""
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()
