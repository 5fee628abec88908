"""Starts and stops a local service in the background, for `timbre up` and `timbre demo`.

It runs Ray's own `serve run` with the config given; nothing here is needed in production.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import yaml
from pydantic import Field, TypeAdapter, ValidationError

from deployments.config.preflight import EPSILON, REFUSAL
from deployments.config.serve_config import ResourceRequest, read_serve_config
from deployments.local.address import find_free_port, listen_address, url_of
from deployments.local.cores import usable_cores
from deployments.local.process import end_session, find_process, session_listens, spawn
from deployments.local.ray_token import token_variables
from deployments.local.threads import planned_threads, with_planned_threads
from deployments.own_packages import stranger_on
from pipeline.errors import SetupError

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.25
FAILED_MARKS = (
    "DEPLOY_FAILED",
    "Deploying app 'timbre' failed",
    "RuntimeError: Failed to bind to address",  # taken since the check
)
LOG_TAIL_LINES = 25
CAUSE = re.compile(
    rf"(?:{REFUSAL}|pipeline\.errors\.\w+Error: |RuntimeError: (?=Failed to bind))(.+)"
)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that was started.

    Kept in `state_dir/service.json` until it is stopped.
    """

    pid: Annotated[int, Field(gt=1)]
    """Process id of `serve run`, whose session holds every process of the service."""
    started_unix_s: float
    """Its start time, since another process may get the same pid later."""
    host: str
    port: int
    log: str

    @property
    def url(self) -> str:
        return url_of(self.host, self.port)


STATE = TypeAdapter(RunningService)


class LocalService:
    """One background service per state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._state_file = state_dir / "service.json"

    @contextmanager
    def sole(self) -> Iterator[None]:
        """A lock: one start at a time from this directory.

        Raises SetupError when another start runs, or when the directory cannot be written.
        """
        try:
            self._state_dir.mkdir(parents=True, exist_ok=True)
            lock = (self._state_dir / "service.lock").open("w")
        except OSError as error:
            raise SetupError(
                f"cannot keep the service's state in {self._state_dir}: {error.strerror}"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SetupError(
                    f"another timbre is starting a service in {self._state_dir}; wait for it, "
                    "or give another --state-dir"
                ) from error
            yield

    @property
    def log(self) -> Path:
        """Of the service that was started last."""
        return self._state_dir / "serve.log"

    def running(self) -> RunningService | None:
        """The service started from this directory, if its process still lives."""
        service = self._known()
        if service is None or find_process(service.pid, service.started_unix_s) is None:
            return None
        return service

    def start(
        self,
        config_path: Path,
        environment: Mapping[str, str],
        progress: Progress,
        notice: Progress,
        on_stage: Progress = lambda _: None,
    ) -> RunningService:
        """Start and wait until every stage answers.

        progress: called repeatedly with what is waited for. notice: called with messages for the
        user. on_stage: called once with the name of each stage that answers. Raises SetupError with
        the end of the log when the start fails, or when the working directory, which Serve imports
        from first, holds a foreign package with one of our names.
        """
        if (stranger := stranger_on([str(Path.cwd())])) is not None:
            raise SetupError(stranger)
        config = read_serve_config(config_path)
        host, port = listen_address(config.document.get("http_options", {}))
        free_port = find_free_port(host, port)
        if free_port != port:
            notice(f"port {port} is in use by another program, taking {free_port}")
        n_cpus = _cpus_to_share(config.resource_requests, notice)
        self.stop(drain_s=0.0)  # the remains of a service that was killed
        self._state_dir.mkdir(parents=True, exist_ok=True)
        environment = {
            **environment,
            **token_variables({**os.environ, **environment}, self._state_dir),
        }
        path = self._state_dir / "serve_config.running.yaml"
        document = _pinned(config.document, host, free_port, config_path)
        document = _scaled_to_cores(document, config.resource_requests)
        threads = planned_threads(config.settings, config.resource_requests, usable_cores())
        document = with_planned_threads(document, threads, notice)
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        process = spawn(path, self.log, environment, n_cpus)
        started_unix_s = psutil.Process(process.pid).create_time()
        service = RunningService(process.pid, started_unix_s, host, free_port, str(self.log))
        try:
            self._keep(service)
            self._wait_until_ready(service, process, progress, on_stage)
        except BaseException:
            end_session(service.pid, service.started_unix_s, drain_s=0.0)
            self._state_file.unlink(missing_ok=True)
            raise
        finally:
            process.returncode = 0  # it outlives this object on purpose; `stop` uses the pid
        return service

    def stop(self, drain_s: float = STOP_TIMEOUT_S) -> bool:
        """Stop the service and its Ray processes; False when none was running.

        drain_s: how long streams may still run before everything is killed.
        """
        service = self._known()
        if service is None:
            return False
        had_any = end_session(service.pid, service.started_unix_s, drain_s)
        self._state_file.unlink(missing_ok=True)
        return had_any

    def _known(self) -> RunningService | None:
        """The state file; None when it is missing, damaged, or of another version."""
        try:
            return STATE.validate_json(self._state_file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        except OSError as error:
            raise SetupError(f"cannot read {self._state_file}: {error.strerror}") from error

    def _keep(self, service: RunningService) -> None:
        """Written atomically: `stop` relies on it."""
        draft = self._state_file.with_suffix(".new")
        draft.write_bytes(STATE.dump_json(service))
        draft.replace(self._state_file)

    def _wait_until_ready(
        self,
        service: RunningService,
        process: subprocess.Popen[bytes],
        progress: Progress,
        on_stage: Progress,
    ) -> None:
        told = set[str]()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        log = ""
        with httpx.Client(base_url=service.url, timeout=5.0, trust_env=False) as client:
            while time.monotonic() < deadline_s:
                log = _read(service.log)
                if process.poll() is not None or any(mark in log for mark in FAILED_MARKS):
                    raise SetupError(f"the service did not start: {_cause(log)} ({service.log})")
                stages = _stages(client)
                for name in stages.keys() - told:
                    if "error" not in stages[name]:
                        on_stage(name)
                        told.add(name)
                progress(_stage_line(stages))
                if _is_ready(client) and session_listens(
                    service.pid, service.started_unix_s, service.port
                ):
                    return
                time.sleep(POLL_S)
        raise SetupError(
            f"the service was not ready in {START_TIMEOUT_S:.0f} s: {_cause(log)} ({service.log})"
        )


def _pinned(
    document: Mapping[str, Any], host: str, port: int, config_path: Path
) -> Mapping[str, Any]:
    """The config at this address, compared at start with the very file that was given."""
    (application,) = document["applications"]
    args = {**application.get("args", {}), "config_file": str(config_path.resolve())}
    options = {**document.get("http_options", {}), "host": host, "port": port}
    return {**document, "http_options": options, "applications": [{**application, "args": args}]}


def _scaled_to_cores(
    document: Mapping[str, Any], requests: Sequence[ResourceRequest]
) -> Mapping[str, Any]:
    """Limit scaling, so that it neither takes the room of an update nor waits for missing cores."""
    (application,) = document["applications"]
    spare = usable_cores() - _requested_cpus(requests) - _update_cpus(requests)
    of = {request.name: request for request in requests}
    deployments = [_scaled(stage, of[stage["name"]], spare) for stage in application["deployments"]]
    return {**document, "applications": [{**application, "deployments": deployments}]}


def _scaled(
    stage: Mapping[str, Any], request: ResourceRequest, spare_cpus: float
) -> Mapping[str, Any]:
    scaling, cpus = stage["autoscaling_config"], request.resources.get("CPU", 0.0)
    if not cpus or "max_replicas" not in scaling:
        return stage
    most = request.replicas + max(0, int((spare_cpus + EPSILON) / cpus))
    most = max(most, scaling.get("min_replicas", 1))
    limit = {"max_replicas": min(scaling["max_replicas"], most)}
    return {**stage, "autoscaling_config": {**scaling, **limit}}


def _cpus_to_share(requests: Sequence[ResourceRequest], notice: Progress) -> int:
    """Cores to tell Ray: the usable ones, or more when the stages and an update request more."""
    cores, asked = usable_cores(), _requested_cpus(requests)
    if asked > cores:
        notice(f"the stages ask for {asked:g} cores and share the {cores} that may be used here")
    return max(cores, math.ceil(asked + _update_cpus(requests) - EPSILON))


def _requested_cpus(requests: Sequence[ResourceRequest]) -> float:
    return sum(request.replicas * request.resources.get("CPU", 0.0) for request in requests)


def _update_cpus(requests: Sequence[ResourceRequest]) -> float:
    """Cores of one new replica beside the old ones: stages are updated one after another."""
    return max(
        (request.resources.get("CPU", 0.0) for request in requests if request.surges), default=0.0
    )


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _stages(client: httpx.Client) -> Mapping[str, Any]:
    """What /readyz says of each; nothing before the router answers, or where it wants a key."""
    try:
        stages = client.get("/readyz").json()["stages"]
    except (httpx.TransportError, ValueError, KeyError):
        return {}
    return stages


def _stage_line(stages: Mapping[str, Any]) -> str:
    if not stages:
        return "starting Ray and the router"
    waiting = [name for name, stage in stages.items() if "error" in stage]
    return f"loading: {', '.join(waiting)}" if waiting else "ready"


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _cause(log: str) -> str:
    """A known cause of failed starts, if the log shows one, else its last lines."""
    causes = CAUSE.findall(log)
    return causes[-1] if causes else "\n".join(["", *log.splitlines()[-LOG_TAIL_LINES:]])
