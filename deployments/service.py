"""Starts and stops a local service in the background, for `timbre up` and `timbre demo`.

It runs Ray's own `serve run` with the config given; nothing here is needed in production.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.serve_config import ServeConfig, read_serve_config
from pipeline.errors import ConfigError, SetupError

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.25
FAILED_MARKS = ("DEPLOY_FAILED", "Deploying app 'timbre' failed")
LOG_TAIL_LINES = 25
OUR_ERROR = re.compile(r"pipeline\.errors\.\w+Error: (.+)")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunningService:
    """What is known of a service that was started.

    Kept in `state_dir/service.json` until it is stopped.
    """

    pid: int
    host: str
    port: int
    log: str

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


class LocalService:
    """One background service per state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._state_file = state_dir / "service.json"

    def running(self) -> RunningService | None:
        """The service started from this directory, if its process still lives."""
        try:
            service = RunningService(**json.loads(self._state_file.read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return service if _is_alive(service.pid) else None

    def start(
        self,
        config_path: Path,
        environment: Mapping[str, str],
        progress: Progress,
        notice: Progress,
    ) -> RunningService:
        """Start and wait until every stage answers.

        progress: told what is waited for, again and again. notice: told what the user must know.
        Raises SetupError with the end of the log when it fails.
        """
        config = read_serve_config(config_path)
        self._state_dir.mkdir(parents=True, exist_ok=True)
        host, port = _listen_address(config)
        free_port = find_free_port(host, port)
        if free_port != port:
            notice(f"port {port} is in use by another program, taking {free_port}")
        path = self._state_dir / "serve_config.running.yaml"
        path.write_text(yaml.safe_dump(_with_port(config.document, free_port), sort_keys=False))
        log = self._state_dir / "serve.log"
        process = _spawn(path, log, environment)
        service = RunningService(process.pid, host, free_port, str(log))
        self._state_file.write_text(json.dumps(asdict(service)))
        try:
            self._wait_until_ready(service, process, progress)
        except BaseException:
            self.stop(drain_s=0.0)
            raise
        finally:
            process.returncode = 0  # it outlives this object on purpose; `stop` goes by its pid
        return service

    def stop(self, drain_s: float = STOP_TIMEOUT_S) -> bool:
        """Stop the service and its Ray processes; False when none was running.

        drain_s: how long streams may still run before everything is killed.
        """
        service = self.running()
        if service is not None:
            _stop_group(service.pid, drain_s)
        self._state_file.unlink(missing_ok=True)
        return service is not None

    def _wait_until_ready(
        self, service: RunningService, process: subprocess.Popen[bytes], progress: Progress
    ) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        log = ""
        with httpx.Client(base_url=service.url, timeout=5.0) as client:
            while time.monotonic() < deadline_s:
                log = _read(service.log)
                if process.poll() is not None or any(mark in log for mark in FAILED_MARKS):
                    raise SetupError(f"the service did not start: {_cause(log)} ({service.log})")
                progress(_stage_line(client))
                if _is_ready(client):
                    return
                time.sleep(POLL_S)
        raise SetupError(
            f"the service was not ready in {START_TIMEOUT_S:.0f} s: {_cause(log)} ({service.log})"
        )


def find_free_port(host: str, port: int) -> int:
    """`port` if nothing listens there, else one that the system picks."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _listen_address(config: ServeConfig) -> tuple[str, int]:
    options = config.document.get("http_options", {})
    host = options.get("host", "127.0.0.1")
    if host == "0.0.0.0":  # noqa: S104 - compared, not bound
        raise ConfigError("timbre up serves this machine only: set http_options.host to 127.0.0.1")
    return host, int(options.get("port", 8000))


def _with_port(document: Mapping[str, Any], port: int) -> dict[str, Any]:
    options = {**document.get("http_options", {}), "port": port}
    return {**document, "http_options": options}


def _spawn(config: Path, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """`serve run` in a session of its own, so that one signal reaches Ray's processes too."""
    serve_command = Path(sys.executable).with_name("serve")
    variables = {
        "RAY_worker_niceness": "0",  # Ray's 15 lets any other program starve the stages
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        **environment,
    }
    with log.open("wb") as output, _interruptible_children():
        return subprocess.Popen(  # noqa: S603 - our own command line
            [str(serve_command), "run", "--address", "local", str(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=variables,
            start_new_session=True,
        )


@contextmanager
def _interruptible_children() -> Iterator[None]:
    """Children stop on SIGINT even where we ignore it, as a shell's background job does."""
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _stop_group(pid: int, drain_s: float) -> None:
    os.kill(pid, signal.SIGINT)
    deadline_s = time.monotonic() + drain_s
    while _is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return False
    return state != "Z"


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _stage_line(client: httpx.Client) -> str:
    try:
        stages = client.get("/readyz").json()["stages"]
    except (httpx.TransportError, ValueError, KeyError):
        return "starting Ray and the router"
    waiting = [name for name, stage in stages.items() if "error" in stage]
    return f"loading: {', '.join(waiting)}" if waiting else "ready"


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _cause(log: str) -> str:
    """Our own error where the log has one, else its last lines."""
    causes = OUR_ERROR.findall(log)
    return causes[-1] if causes else "\n".join(["", *log.splitlines()[-LOG_TAIL_LINES:]])
