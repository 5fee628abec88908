"""The local service's processes and state, with a small program in the place of `serve run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
import yaml

from deployments.local import process as local_process
from deployments.local import service
from deployments.local.process import end_session, find_process
from deployments.local.service import LocalService, RunningService
from pipeline.errors import ConfigError, SetupError
from tests.unit.deployments.local.fake_service import config
from tests.waiting import eventually, wait_until

pytestmark = [pytest.mark.unit, pytest.mark.slow]


def start(state: Path, **environment: str) -> RunningService:
    quiet: list[str] = []
    path = config(state.parent)
    return LocalService(state).start(path, environment, quiet.append, quiet.append)


def session(pid: int) -> list[psutil.Process]:
    return local_process._members(pid, 0.0)


def remember(state: Path, known: RunningService, **changed: object) -> None:
    document = json.loads(service.STATE.dump_json(known)) | changed
    state.mkdir(exist_ok=True)
    (state / "service.json").write_text(json.dumps(document))


def process_of(pid: int) -> RunningService:
    return RunningService(pid, psutil.Process(pid).create_time(), "127.0.0.1", 1, "serve.log")


def test_it_starts_is_found_again_and_stops_with_all_its_processes(state):
    started = start(state)
    assert LocalService(state).running() == started
    assert len(session(started.pid)) == 2
    assert LocalService(state).stop()
    assert session(started.pid) == []
    assert LocalService(state).running() is None
    assert not LocalService(state).stop()


def test_what_serve_is_given(state, monkeypatch):
    monkeypatch.setattr(service, "usable_cores", lambda: 1)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv(local_process.RESOURCES, raising=False)
    noticed: list[str] = []
    path = config(state.parent, vocoder_threads=2)
    LocalService(state).start(path, {"TIMBRE_MODEL": "tiny"}, noticed.append, noticed.append)
    said = json.loads((state.parent / "said.json").read_text())
    assert said["argv"][:3] == ["run", "--address", "local"]
    assert said["env"]["NO_PROXY"] == said["env"]["no_proxy"]
    assert said["env"]["NO_PROXY"].startswith("intranet,127.0.0.1,localhost,::1")
    assert json.loads(said["env"][local_process.RESOURCES]) == {"CPU": 2}
    assert any("ask for 1.4 cores and share the 1" in line for line in noticed)
    assert said["env"]["TIMBRE_MODEL"] == "tiny"
    assert said["env"]["RAY_AUTH_MODE"] == "token"
    assert Path(said["env"]["RAY_AUTH_TOKEN_PATH"]) == state.parent / ".ray" / "auth_token"
    written = yaml.safe_load((state / "serve_config.running.yaml").read_text())
    assert written["applications"][0]["args"]["config_file"] == str(path)
    assert written["applications"][0]["args"]["vocoder"]["threads"] == 1
    assert "vocoder.threads is 2, and the cores here give each replica 1" in noticed


@pytest.mark.parametrize(
    ("cores", "shared", "most"),
    [
        (1, 2, {"Router": 1, "Tokenizer": 1, "LLM": 1, "Vocoder": 1, "Jobs": 1}),
        (2, 2, {"Router": 2, "Tokenizer": 1, "LLM": 1, "Vocoder": 1, "Jobs": 1}),
        (4, 4, {"Router": 2, "Tokenizer": 2, "LLM": 2, "Vocoder": 2, "Jobs": 1}),
    ],
)
def test_an_update_always_finds_room_for_a_new_replica(state, monkeypatch, cores, shared, most):
    monkeypatch.setattr(service, "usable_cores", lambda: cores)
    monkeypatch.delenv(local_process.RESOURCES, raising=False)
    start(state)
    said = json.loads((state.parent / "said.json").read_text())
    assert json.loads(said["env"][local_process.RESOURCES]) == {"CPU": shared}
    (application,) = yaml.safe_load((state / "serve_config.running.yaml").read_text())[
        "applications"
    ]
    scaling = {d["name"]: d["autoscaling_config"] for d in application["deployments"]}
    assert {name: options["max_replicas"] for name, options in scaling.items()} == most


def test_what_the_user_says_of_tokens_is_what_serve_is_given(state):
    start(state, RAY_AUTH_MODE="disabled")
    said = json.loads((state.parent / "said.json").read_text())
    assert said["env"]["RAY_AUTH_MODE"] == "disabled"
    assert not (state.parent / ".ray").exists()


def test_a_mode_of_tokens_that_ray_does_not_know_starts_nothing(state):
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE is 'on'"):
        start(state, RAY_AUTH_MODE="on")
    assert not (state.parent / "said.json").exists()


def test_an_interpreter_whose_path_has_a_space_is_quoted_for_rays_shell(monkeypatch):
    assert local_process._interpreter_options() == []
    monkeypatch.setattr(sys, "executable", "/home/me/my demo/bin/python")
    option, value = local_process._interpreter_options()
    assert option == "--runtime-env-json"
    assert json.loads(value) == {"py_executable": "'/home/me/my demo/bin/python'"}


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (
            "(ServeController pid=7) Deploying app 'timbre' failed with exception:\n"
            "(ServeController pid=7) timbre cannot start: there is no GPU here",
            r"did not start: there is no GPU here \(",
        ),
        (
            "Traceback\npipeline.errors.CheckpointError: no checkpoint\n... DEPLOY_FAILED",
            r"did not start: no checkpoint \(",
        ),
        (
            "RuntimeError: Failed to bind to address '127.0.0.1:8000'.",
            r"did not start: Failed to bind to address '127.0.0.1:8000'. \(",
        ),
        ("one\ntwo\nDEPLOY_FAILED", r"did not start: \none\ntwo\nDEPLOY_FAILED \("),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(state, log, says):
    with pytest.raises(SetupError, match=says):
        start(state, FAKE_LOG=log)
    assert not (state / "service.json").exists()
    assert [p for p in psutil.process_iter() if str(state.parent) in " ".join(cmdline(p))] == []


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_command_that_is_not_there_is_one_sentence(state, monkeypatch):
    monkeypatch.setattr(local_process, "SERVE_COMMAND", (str(state / "nothing"),))
    with pytest.raises(SetupError, match=r"cannot start .*nothing.*No such file"):
        start(state)


def test_another_process_with_the_number_is_left_alone(state, stranger):
    known = process_of(stranger.pid)
    remember(state, known, started_unix_s=known.started_unix_s - 3600.0)
    assert LocalService(state).running() is None
    assert not LocalService(state).stop()
    assert stranger.poll() is None
    assert not (state / "service.json").exists()


def test_a_session_whose_number_went_to_a_stranger_is_left_alone(state, stranger):
    """Not even what looks like Ray's: it began after our service, but under another leader."""
    known = process_of(stranger.pid)
    remember(state, known, started_unix_s=known.started_unix_s - 3600.0)
    assert not end_session(stranger.pid, known.started_unix_s - 3600.0, drain_s=0.0)
    assert stranger.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"pid": 12',
        b"\xff\xfe",
        b"[]",
        b'{"pid": %d, "host": "127.0.0.1", "port": 8000, "log": "serve.log"}',
        b'{"pid": -1, "started_unix_s": 0, "host": "127.0.0.1", "port": 8000, "log": "x"}',
        b'{"pid": 0, "started_unix_s": 0, "host": "127.0.0.1", "port": 8000, "log": "x"}',
        b'{"pid": "all", "started_unix_s": 0, "host": "127.0.0.1", "port": 8000, "log": "x"}',
    ],
)
def test_a_state_file_that_is_damaged_names_nobody(state, stranger, content):
    state.mkdir()
    content = content.replace(b"%d", str(stranger.pid).encode())
    (state / "service.json").write_bytes(content)
    assert LocalService(state).running() is None
    assert not LocalService(state).stop()
    assert stranger.poll() is None
    assert start(state).url
    assert LocalService(state).stop()


def test_a_state_that_cannot_be_read_is_one_sentence(state):
    (state.parent / "file").write_text("")
    with pytest.raises(SetupError, match=r"cannot read .*service.json: Not a directory"):
        LocalService(state.parent / "file").stop()


def test_a_dead_child_that_nobody_has_reaped_is_not_running(state):
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as child:
        known = process_of(child.pid)
        child.send_signal(signal.SIGKILL)
        assert eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        remember(state, known)
        assert LocalService(state).running() is None


def test_what_a_killed_service_left_behind_is_ended(state):
    started = start(state)
    os.kill(started.pid, signal.SIGKILL)
    wait_until(lambda: len(session(started.pid)) == 1)
    (worker,) = session(started.pid)
    assert LocalService(state).running() is None
    assert LocalService(state).stop()
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_start_first_ends_what_a_killed_one_left(state):
    first = start(state)
    os.kill(first.pid, signal.SIGKILL)
    os.waitpid(first.pid, 0)
    second = start(state)
    assert session(first.pid) == []
    assert LocalService(state).running() == second


def test_a_service_that_does_not_end_by_itself_is_killed(state, tmp_path):
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{deaf}; time.sleep(600)"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        child.stdout.readline()
        remember(state, process_of(child.pid))
        began_s = time.monotonic()
        assert LocalService(state).stop(drain_s=0.2)
        assert time.monotonic() - began_s < 20
        assert child.wait() == -signal.SIGKILL


def test_a_service_of_another_user_is_one_sentence(state, stranger, monkeypatch):
    def refused(self: psutil.Process, _: int) -> None:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "send_signal", refused)
    remember(state, process_of(stranger.pid))
    with pytest.raises(SetupError, match=rf"process {stranger.pid} .* another user's"):
        LocalService(state).stop()


def test_two_starts_at_once_are_one_service_and_one_sentence(state):
    local = LocalService(state)
    with local.sole():
        with pytest.raises(SetupError, match="another timbre is starting a service in"):
            with LocalService(state).sole():
                pass
    with LocalService(state).sole():
        pass


def test_a_state_directory_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=r"cannot keep the service's state in .*/file"):
        with LocalService(tmp_path / "file").sole():
            pass


def test_another_service_on_the_port_is_not_taken_for_ours(state, monkeypatch):
    """Two starts that found the same port free: the one that did not get it is not ready."""
    monkeypatch.setattr(service, "START_TIMEOUT_S", 1.0)
    monkeypatch.setattr(service, "find_free_port", lambda host, port: port)
    with HTTPServer(("127.0.0.1", 0), Ready) as other, ThreadPoolExecutor(1) as pool:
        pool.submit(other.serve_forever, 0.05)
        path = config(state.parent, port=other.server_port)
        with pytest.raises(SetupError, match="was not ready in 1 s"):
            LocalService(state).start(path, {"FAKE_LOG": "still loading"}, print, print)
        other.shutdown()


class Ready(BaseHTTPRequestHandler):
    """Says that it is ready, whatever it is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"stages": {}}')

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows standard error."""


def test_a_stop_during_a_start_ends_it(state):
    """The start has the main thread, as a command has: it sets a signal's handler."""

    def stop() -> bool:
        wait_until((state.parent / "said.json").exists)
        wait_until(lambda: LocalService(state).running() is not None)
        return LocalService(state).stop(drain_s=1.0)

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(stop)
        with pytest.raises(SetupError, match="did not start"):
            start(state, FAKE_LOG="still loading")
        assert stopped.result()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": "203.0.113.7"}, "no address of this machine"),
        ({"host": "0.0.0.0"}, "this machine only"),  # noqa: S104 - refused
        ({"host": "nobody.invalid"}, "no name known here"),
        ({"port": 70_000}, "http_options.port is 70000, above 65535"),
        ({"port": -1}, "http_options.port is -1"),
        ({"port": "http"}, "http_options.port: Input should be a valid integer"),
    ],
)
def test_an_address_that_cannot_be_is_said_before_anything_starts(state, options, says):
    with pytest.raises(ConfigError, match=says):
        LocalService(state).start(config(state.parent, **options), {}, print, print)
    assert not (state.parent / "said.json").exists()


def test_find_process_knows_the_start(stranger):
    started_unix_s = psutil.Process(stranger.pid).create_time()
    assert find_process(stranger.pid, started_unix_s) is not None
    assert find_process(stranger.pid, started_unix_s + 60.0) is None
    assert find_process(2**22 + 1, started_unix_s) is None
