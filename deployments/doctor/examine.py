"""The list of checks, and a look at all of them. A new one is a function and a line here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

import httpx
import psutil

from deployments.doctor import bucket, exposure, machine, secret_files, service
from deployments.doctor.findings import Finding, Result, unknown
from deployments.doctor.site import Site

CHECKS: dict[str, Callable[[Site], Finding]] = {
    "config": service.config,
    "checkpoint": service.checkpoint,
    "packages": service.packages,
    "port": service.port,
    "service": service.readiness,
    "python": machine.python,
    "cores": machine.cores,
    "threads": machine.threads,
    "memory": machine.memory,
    "disk": machine.disk,
    "store": machine.writable,
    "bucket": bucket.bucket,
    "shared memory": machine.shared_memory,
    "open files": machine.open_files,
    "gpu": machine.gpu,
    "clock": service.clock,
    "keys": exposure.keys,
    "listening": exposure.listening,
    "ray token": exposure.ray_token,
    "dashboard": exposure.dashboard,
    "tls": exposure.tls,
    "proxy": exposure.serves_controls,
    "outbound": exposure.outbound,
    "secret files": secret_files.secret_files,
    "secrets": secret_files.secrets_in_config,
}


def examine(site: Site) -> Sequence[Result]:
    """Every check, in its order. One that cannot be made says why."""
    return [Result(name, _made(check, site)) for name, check in CHECKS.items()]


def _made(check: Callable[[Site], Finding], site: Site) -> Finding:
    try:
        return check(site)
    except (OSError, psutil.Error, httpx.HTTPError, subprocess.SubprocessError) as error:
        return unknown(f"could not be looked at: {error}")
