"""Who listens on which of this machine's ports, and from where it can be reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

_RAYS = {  # what a command line holds → what it is
    "gcs_server": "Ray's GCS",
    "raylet": "raylet",
    "dashboard/dashboard.py": "Ray's dashboard",
    "dashboard/agent.py": "Ray's dashboard agent",
    "runtime_env/agent": "Ray's runtime environments",
    "ray.util.client.server": "Ray's client server",
    "log_monitor": "Ray's log monitor",
    "ray::ServeController": "Serve's controller",
    "ray::ProxyActor": "Serve's proxy",
    "ray::DashboardAgent": "Ray's dashboard agent",
    "ray::RuntimeEnvAgent": "Ray's runtime environments",
    "autoscaler/_private/monitor": "Ray's autoscaler",
    "autoscaler/v2/monitor": "Ray's autoscaler",
    "ray::": "a Ray worker",
    "default_worker.py": "a Ray worker",
    "ray.serve.scripts": "serve run",
}
PROXY, DASHBOARD = "Serve's proxy", "Ray's dashboard"
EDGES = ("haproxy", "nginx", "envoy", "caddy", "traefik")


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that a process listens on.

    program: what it is, as far as this user may know; empty otherwise. is_rays: of Ray, Serve
    included. has_token: it asks for Ray's token; None where nobody can tell.
    """

    host: str
    port: int
    program: str = ""
    is_rays: bool = False
    has_token: bool | None = None

    @property
    def is_reachable(self) -> bool:
        """From other machines, if no firewall is between."""
        return not is_loopback(self.host)

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.program or 'somebody'} on {host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether an address, or a name for it, is this machine's own alone."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def listeners() -> Sequence[Listener]:
    """Every TCP port of this machine. Raises psutil.Error, OSError."""
    found = {
        (one.laddr.ip, one.laddr.port, one.pid)
        for one in psutil.net_connections("tcp")
        if one.laddr and one.status == psutil.CONN_LISTEN
    }
    return tuple(_listener(*one) for one in sorted(found, key=lambda one: (one[1], one[0])))


def _listener(host: str, port: int, pid: int | None) -> Listener:
    with suppress(psutil.Error):
        if pid is not None:
            process = psutil.Process(pid)
            command = " ".join(process.cmdline()) or process.name()
            if (rays := _rays(command)) is None:
                return Listener(host, port, process.name())
            if rays == DASHBOARD and host not in _hosts_in(command):
                rays = "metrics of Ray's dashboard"
            return Listener(host, port, rays, is_rays=True, has_token=_has_token(process))
    return Listener(host, port)


def _rays(command: str) -> str | None:
    return next((name for mark, name in _RAYS.items() if mark in command), None)


def _hosts_in(command: str) -> set[str]:
    """Where a dashboard was told to listen."""
    return {word.partition("=")[2] for word in command.split() if word.startswith("--host=")}


def _has_token(process: psutil.Process) -> bool | None:
    """A process that renamed itself may have lost its variables over it."""
    try:
        variables = process.environ()
    except psutil.Error:
        return None
    return variables.get("RAY_AUTH_MODE", "").lower() == "token" if variables else None


def of_program(all_of_them: Sequence[Listener], program: str) -> Iterator[Listener]:
    return (one for one in all_of_them if one.program == program)
