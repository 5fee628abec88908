"""The address and a free port where a local service listens."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from typing import Any

import psutil

from pipeline.errors import ConfigError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NO_PROXY = ("NO_PROXY", "no_proxy")

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


def listen_address(options: Mapping[str, Any]) -> tuple[str, int]:
    """Host and port of a serve config's `http_options`, for a service of this machine alone.

    Raises ConfigError for an address that is not of this machine, or that others can reach.
    """
    host, port = str(options.get("host", DEFAULT_HOST)), int(options.get("port", DEFAULT_PORT))
    _, (ip, *_) = _resolved(host or "0.0.0.0", port)  # noqa: S104 - compared, not bound
    if ipaddress.ip_address(str(ip).partition("%")[0]).is_unspecified:
        raise ConfigError(
            f"timbre up serves this machine only: set http_options.host to {DEFAULT_HOST}"
        )
    return host, port


def find_free_port(host: str, port: int) -> int:
    """`port` if it is free, else one that the system picks.

    Raises ConfigError when this machine has no such address or refuses the port.
    """
    try:
        return _bound_port(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _bound_port(host, 0)
        raise ConfigError(_why_not(host, port, error)) from error


def url_of(host: str, port: int) -> str:
    """The address as clients write it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that exempt this machine's own addresses from proxies.

    Exemptions in `environment` are kept.
    """
    theirs = [environment[name] for name in NO_PROXY if environment.get(name)]
    if "*" in theirs:
        return dict.fromkeys(NO_PROXY, "*")
    internet = (socket.AF_INET, socket.AF_INET6)
    cards = psutil.net_if_addrs().values()
    ours = [
        nic.address.partition("%")[0] for nics in cards for nic in nics if nic.family in internet
    ]
    return dict.fromkeys(NO_PROXY, ",".join(dict.fromkeys([*theirs, *LOOPBACK, *ours])))


def _bound_port(host: str, port: int) -> int:
    family, address = _resolved(host, port)
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])


def _resolved(host: str, port: int) -> Address:
    """The addresses that binding to the host means, IPv4 first, as in Serve's proxy."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(
            f"http_options.host is {host!r}, which is no address and no name known here"
        ) from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return f"http_options.host is {host}, which is no address of this machine"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"http_options.port is {port}, which this user may not open: take one above 1023"
    return f"nothing can listen on {host} port {port}: {os.strerror(error.errno or 0)}"
