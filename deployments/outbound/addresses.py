"""Which addresses of callers the service may connect to: by the names allowed, and what these mean.

A private, loopback or link-local address is refused unless it is allowed itself, whatever name led
to it. What was checked is what is connected to: a name is resolved once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from pipeline.errors import MAX_FOUND, StageUnavailableError, UnsupportedError

PORTS = {"https": 443, "http": 80}
RESOLVE_S = 5.0
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """An address that may be connected to. url: as it was given. address: what to connect to."""

    url: str
    scheme: str
    host: str
    port: int
    address: str

    @property
    def pinned(self) -> str:
        """The URL with the address in place of the name."""
        shown = f"[{self.address}]" if ":" in self.address else self.address
        parts = urlsplit(self.url)
        return parts._replace(netloc=f"{shown}:{self.port}", fragment="").geturl()

    @property
    def host_header(self) -> str:
        """The name as the other side expects it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


class AllowedHosts:
    """Hosts by name or address, each with a port where it is not the scheme's own."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = {host.strip().lower().rstrip(".") for host in hosts}

    def check(self, url: str, param: str) -> SplitResult:
        """The parts of a URL whose host is allowed. Contacts nobody. Raises UnsupportedError."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise _refused(param, "it is no URL") from error
        if parts.scheme not in PORTS or not parts.hostname:
            raise _refused(param, "a URL that begins with https:// or http:// is expected")
        if parts.username is not None or parts.password is not None:
            raise _refused(param, "a URL with a user or password is not taken")
        if not self._names(parts.hostname, port, parts.scheme):
            raise _refused(
                param, f"the host {parts.hostname[:MAX_FOUND]!a} is not allowed by this service"
            )
        return parts

    async def resolve(self, url: str, param: str) -> Target:
        """Where to connect for a URL.

        Raises UnsupportedError, or StageUnavailableError when the name has no address now.
        """
        parts = self.check(url, param)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or PORTS[parts.scheme]
        found = await _addresses(host, port)
        for address in found:
            if not (_is_public(address) or self._names(str(address), parts.port, parts.scheme)):
                raise _refused(param, f"the host {host[:MAX_FOUND]!a} is not a public one")
        return Target(url.strip(), parts.scheme, host, port, str(found[0]))

    def _names(self, host: str, port: int | None, scheme: str) -> bool:
        host = host.lower().rstrip(".")
        shown = f"[{host}]" if ":" in host else host
        asked = {f"{host}:{port}", f"{shown}:{port}"} if port else {host, shown}
        if port == PORTS[scheme]:
            asked |= {host, shown}
        return bool(asked & self._hosts)


async def _addresses(host: str, port: int) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise StageUnavailableError(
            f"the host {host[:MAX_FOUND]!a} has no address now", detail=repr(error)
        ) from error
    addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    if not addresses:
        raise StageUnavailableError(f"the host {host[:MAX_FOUND]!a} has no address now")
    return addresses


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return _is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _refused(param: str, why: str) -> UnsupportedError:
    return UnsupportedError(f"{param}: {why}", param=param)
