"""The processes of a local service: start, identify, end.

`serve run` leads a session of its own, and Ray's processes stay in it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deployments.local.address import past_proxies
from pipeline.errors import SetupError

SERVE_COMMAND = (sys.executable, "-m", "ray.serve.scripts")
START_TOLERANCE_S = 5.0  # start times derive from the boot time, and the clock may be adjusted
GONE_TIMEOUT_S = 10.0
POLL_S = 0.05
RESOURCES = "RAY_OVERRIDE_RESOURCES"  # JSON; replaces Ray's own count of the machine's resources


def spawn(
    config: Path, log: Path, environment: Mapping[str, str], n_cpus: int
) -> subprocess.Popen[bytes]:
    """`serve run` in a session of its own. n_cpus: the cores that Ray gives to the stages.

    Raises SetupError when it cannot be started.
    """
    command = [*SERVE_COMMAND, "run", "--address", "local", *_interpreter_options(), str(config)]
    try:
        with log.open("wb") as output, _interruptible_children():
            return subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=_variables(environment, n_cpus),
                start_new_session=True,
            )
    except OSError as error:
        raise SetupError(f"cannot start {shlex.join(command)}: {error.strerror}") from error


def find_process(pid: int, started_unix_s: float) -> psutil.Process | None:
    """The running process `pid`, if it was started at that time."""
    try:
        process = psutil.Process(pid)
        is_ours = _began(process, started_unix_s) and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return process if is_ours else None


def session_listens(pid: int, started_unix_s: float, port: int) -> bool:
    """Whether a process of session `pid` listens on a TCP port, and not another service."""
    return any(port in _listening_ports(p) for p in _members(pid, started_unix_s))


def end_session(pid: int, started_unix_s: float, drain_s: float) -> bool:
    """End the leader of session `pid`, then the rest of the session.

    drain_s: how long the leader may take to end by itself. Returns False when nothing was running.
    Raises SetupError when the process belongs to another user.
    """
    leader = find_process(pid, started_unix_s)
    try:
        if leader is None:
            return _kill(lambda: _remains(pid, started_unix_s))
        with suppress(psutil.NoSuchProcess):
            leader.send_signal(signal.SIGINT)
        deadline_s = time.monotonic() + drain_s
        while find_process(pid, started_unix_s) is not None and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        _kill(lambda: _members(pid, started_unix_s))
    except psutil.AccessDenied as error:
        raise SetupError(
            f"process {error.pid} of the service is another user's, who has to stop it"
        ) from error
    return True


def _began(process: psutil.Process, started_unix_s: float) -> bool:
    return abs(process.create_time() - started_unix_s) <= START_TOLERANCE_S


def _kill(find: Callable[[], list[psutil.Process]]) -> bool:
    """Kill what `find` finds until it finds nothing: dying processes may start others."""
    deadline_s = time.monotonic() + GONE_TIMEOUT_S
    had_any = False
    while (found := find()) and time.monotonic() < deadline_s:
        had_any = True
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(POLL_S)
    return had_any


def _remains(pid: int, started_unix_s: float) -> list[psutil.Process]:
    """Ray processes that outlived a killed leader.

    A process that has the leader's pid by now is a stranger, and so is its session.
    """
    try:
        if not _began(psutil.Process(pid), started_unix_s):
            return []
    except psutil.NoSuchProcess:
        pass
    return [process for process in _members(pid, started_unix_s) if _is_rays(process)]


def _members(pid: int, started_unix_s: float) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if _is_member(p, pid, started_unix_s)]


def _is_member(process: psutil.Process, session: int, since_unix_s: float) -> bool:
    try:
        return (
            os.getsid(process.pid) == session
            and process.create_time() >= since_unix_s - START_TOLERANCE_S
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def _listening_ports(process: psutil.Process) -> set[int]:
    try:
        sockets = process.net_connections("tcp")
    except psutil.Error:
        return set()
    return {s.laddr.port for s in sockets if s.status == psutil.CONN_LISTEN}


def _is_rays(process: psutil.Process) -> bool:
    try:
        return "ray" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _variables(environment: Mapping[str, str], n_cpus: int) -> dict[str, str]:
    """The environment of the service: ours, Ray's variables, and `environment`."""
    variables = {
        "RAY_worker_niceness": "0",  # Ray's 15 lets any other program starve the stages
        "RAY_prestart_worker_first_driver": "0",  # none of them has the stages' environment
        RESOURCES: json.dumps({"CPU": n_cpus}),
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        **environment,
    }
    return {**variables, **past_proxies(variables)}


def _interpreter_options() -> list[str]:
    """Ray passes its workers' command lines to a shell without quoting the interpreter."""
    quoted = shlex.quote(sys.executable)
    if quoted == sys.executable:
        return []
    return ["--runtime-env-json", json.dumps({"py_executable": quoted})]


@contextmanager
def _interruptible_children() -> Iterator[None]:
    """Make children stop on SIGINT even when this process, a background job, ignores it."""
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
