"""Services with marks in them: the shipped CPU config, and where its processes' CPU seconds go."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

from deployments.local.service import LocalService, RunningService
from load_tests.bench.router import marks
from tests.cache_helpers import free_port

ROOT = Path(__file__).parents[3]
APP = "load_tests.bench.router.service_app"
CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
HAPROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "1"}
ONE_LOOP = {  # Serve's own work in a replica and ours share an event loop
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
}
INGRESSES: Mapping[str, Mapping[str, str]] = {  # variables of every process, by the way in
    "proxy": {},
    "haproxy": HAPROXY,
    "proxy-one-loop": ONE_LOOP,
    "haproxy-one-loop": {**HAPROXY, **ONE_LOOP},
}
_KINDS = re.compile(r"ray::ServeReplica:timbre:(\w+)|ray::(\w+)|(haproxy|gcs_server|raylet)\b")


def write_config(directory: Path, *, has_real_stages: bool, variables: Mapping[str, str]) -> Path:
    """The shipped CPU config with marks, a replica a stage. variables: of every process."""
    config = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    ours = {marks.DIRECTORY: str(directory / "marks"), CALLBACK: f"{APP}:set_up_marked_proxy"}
    (application,) = config["applications"]
    application["import_path"] = f"{APP}:{'build_real' if has_real_stages else 'build_fake'}"
    application["runtime_env"]["env_vars"] |= {**ours, **variables}
    config["controller_options"]["runtime_env"]["env_vars"] |= {**ours, **variables}
    config["http_options"]["port"] = free_port()
    application["args"]["cache"]["url"] = str(directory / "voices")
    application["args"]["admission"] = {"enabled": False}  # the way is measured, not who takes it
    for deployment in application["deployments"]:
        deployment["autoscaling_config"]["max_replicas"] = 1
    path = directory / "serve_config.yaml"
    application["args"]["config_file"] = str(path)
    (directory / "marks").mkdir(parents=True)
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running(
    directory: Path, *, has_real_stages: bool, ingress: str, variables: Mapping[str, str]
) -> Iterator[RunningService]:
    """Such a service, until the end of the block. variables: beside those of the ingress."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # services outlive their starter
    variables = {**INGRESSES[ingress], **variables}
    config = write_config(directory, has_real_stages=has_real_stages, variables=variables)
    local = LocalService(directory)
    environment = {"PYTHONPATH": str(ROOT), **variables}
    quiet = [].append
    try:
        yield local.start(config, environment, quiet, quiet)
    finally:
        local.stop(drain_s=0.0)


def cpu_s(service: RunningService) -> dict[str, float]:
    """CPU seconds so far, by kind of process."""
    found: dict[str, float] = {}
    for process in psutil.Process(service.pid).children(recursive=True):
        try:
            named = _KINDS.search(" ".join(process.cmdline()))
            times = process.cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        kind = "others" if named is None else next(filter(None, named.groups()))
        found[kind] = found.get(kind, 0.0) + times.user + times.system
    return found
