"""The commands for a service on this machine; a small program stands for the service."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from deployments.commands import local as local_commands
from deployments.local.service import LocalService
from pipeline.cli import Exit
from pipeline.errors import SetupError
from tests.unit.deployments.local.fake_service import config
from tests.waiting import eventually

pytestmark = [pytest.mark.unit, pytest.mark.slow]


def test_the_commands(state):
    run = CliRunner().invoke
    options = ["--state-dir", str(state)]
    up = run(app, ["up", str(config(state.parent)), *options])
    assert (up.exit_code, "ready at http://127.0.0.1:" in up.output) == (0, True)
    again = run(app, ["up", *options])
    assert (again.exit_code, "already running" in again.output) == (0, True)
    down = run(app, ["down", *options])
    assert (down.exit_code, down.output) == (0, "stopped\n")
    none = run(app, ["down", *options])
    assert (none.exit_code, none.output) == (0, "nothing was running\n")


def test_the_commands_about_a_service_that_runs(state):
    run = CliRunner().invoke
    options = ["--state-dir", str(state)]
    none = run(app, ["status", *options, "--json"])
    assert (none.exit_code, json.loads(none.stdout)["running"]) == (Exit.NO, False)
    assert run(app, ["logs", *options]).exit_code == Exit.WRONG
    path = config(state.parent)
    up = json.loads(run(app, ["up", str(path), *options, "--json"]).stdout)
    told = json.loads(run(app, ["status", *options, "--json"]).stdout)
    facts = {"ready": True, "running": True, "stages": {"llm": "ready"}}
    assert told == {**facts, "url": up["url"], "pid": up["pid"], "log": up["log"]}
    Path(up["log"]).write_text("one\ntwo\nthree\n")
    assert run(app, ["logs", *options, "-n", "2"]).stdout == "two\nthree\n"
    told = run(app, ["logs", *options, "-n", "1", "--json"]).stdout
    assert [json.loads(line) for line in told.splitlines()] == [{"line": "three"}]
    serve = run(app, ["serve", str(path), *options])
    assert (serve.exit_code, "already running" in serve.stderr) == (Exit.WRONG, True)
    assert json.loads(run(app, ["down", *options, "--json"]).stdout) == {"stopped": True}


@pytest.fixture
def hang_up() -> Iterator[None]:
    """A terminal that closes is told of, also where the tests run below nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_up")
@pytest.mark.parametrize("asks_to_end", [signal.SIGTERM, signal.SIGHUP, None])
def test_serve_tells_of_its_stages_and_ends_with_the_service(
    state, asks_to_end: signal.Signals | None
):
    def is_started() -> bool:
        if LocalService(state).running() is None:
            return False
        with suppress(SetupError), LocalService(state).sole():
            return True
        return False  # the lock is held until it is ready

    def end() -> None:
        if eventually(is_started, 30.0):
            time.sleep(0.3)
            pid = LocalService(state).running().pid
            if asks_to_end is None:
                os.kill(pid, signal.SIGTERM)
            else:
                os.kill(os.getpid(), asks_to_end)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(end)
        words = ["serve", str(config(state.parent)), "--state-dir", str(state), "--json"]
        told = CliRunner().invoke(app, words)
    assert told.exit_code == (Exit.DONE if asks_to_end else Exit.AWAY), told.output
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert [one["event"] for one in events] == ["stage", "ready", "ended"]
    assert events[0]["stage"] == "llm"
    assert LocalService(state).running() is None
    assert "Traceback" not in told.stderr


def test_serve_leaves_no_service_behind_when_nobody_reads_it_any_more(state, monkeypatch):
    def tell(told: dict[str, object], *_: object) -> None:
        if told["event"] == "ready":
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(local_commands, "tell", tell)
    words = ["serve", str(config(state.parent)), "--state-dir", str(state), "--json"]
    assert CliRunner().invoke(app, words).exit_code == 1
    assert LocalService(state).running() is None


def test_the_demo_of_a_voice_that_is_not_listed_is_one_sentence(state):
    result = CliRunner().invoke(app, ["demo", "--voice", "nobody", "--state-dir", str(state)])
    assert result.exit_code == 2
    assert "timbre: no voice is named 'nobody'; voices: aria, bruno" in result.output
    assert not state.exists()
