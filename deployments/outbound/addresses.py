"""Which addresses of callers the service may connect to: by the names allowed, and what these mean.

A private, loopback or link-local address is refused unless it is allowed itself, whatever name led
to it; a machine's metadata service always. What was checked is what is connected to: a name is
resolved once for each request, and anew for each redirect.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from pipeline.errors import MAX_FOUND, StageUnavailableError, UnsupportedError

PORTS = {"https": 443, "http": 80}
RESOLVE_S = 5.0
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, whose names may mean others the next time. Raises OSError."""
# Whatever asks there is given the machine's own credentials. Azure's second one looks public.
METADATA = frozenset(
    ipaddress.ip_address(one)
    for one in ("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200",
                "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)  # fmt: skip
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address
_IPV4_BITS = 2**32 - 1
_ISATAP = (0x00005EFE, 0x02005EFE)  # in the middle of an address whose last 32 bits are IPv4's


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


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """As this machine resolves names. Raises OSError, UnicodeError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class AllowedHosts:
    """Hosts by name or address, each with a port where it is not the scheme's own.

    An entry may begin with https:// or http://. schemes: of an entry that names none.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        schemes: Sequence[str] = tuple(PORTS),
        resolver: Resolver = system_addresses,
    ) -> None:
        self._resolver = resolver
        self._hosts: dict[str, set[str]] = {scheme: set() for scheme in PORTS}
        for entry in hosts:
            scheme, _, host = entry.strip().lower().rpartition("://")
            for one in (scheme,) if scheme else schemes:
                self._hosts.setdefault(one, set()).add(host.rstrip("/").rstrip("."))

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
            host = parts.hostname[:MAX_FOUND]
            if any(self._names(host, port, other) for other in PORTS):
                raise _refused(param, f"the host {host!a} is not allowed by {parts.scheme}")
            raise _refused(param, f"the host {host!a} is not allowed by this service")
        return parts

    async def resolve(self, url: str, param: str) -> Target:
        """Where to connect for a URL.

        Raises UnsupportedError, or StageUnavailableError when the name has no address now.
        """
        parts = self.check(url, param)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or PORTS[parts.scheme]
        found = await self._addresses(host, port)
        for address in found:
            is_allowed = self._names(str(address), parts.port, parts.scheme)
            if _is_metadata(address) or not (is_public(address) or is_allowed):
                raise _refused(param, f"the host {host[:MAX_FOUND]!a} is not a public one")
        return Target(url.strip(), parts.scheme, host, port, str(found[0]))

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await self._resolver(host, port)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise StageUnavailableError(
                f"the host {host[:MAX_FOUND]!a} has no address now", detail=repr(error)
            ) from error
        addresses = [ipaddress.ip_address(one.partition("%")[0]) for one in found]
        if not addresses:
            raise StageUnavailableError(f"the host {host[:MAX_FOUND]!a} has no address now")
        return addresses

    def _names(self, host: str, port: int | None, scheme: str) -> bool:
        host = host.lower().rstrip(".")
        shown = f"[{host}]" if ":" in host else host
        asked = {f"{host}:{port}", f"{shown}:{port}"} if port else {host, shown}
        if port == PORTS[scheme]:
            asked |= {host, shown}
        return bool(asked & self._hosts[scheme])


def is_public(address: Address) -> bool:
    """Whether everybody could reach it: neither this machine's nor a network's own.

    An IPv6 address that carries an IPv4 one is what that is: some gateway takes it there.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.teredo is not None or address.is_site_local:
            return False
        if (inner := _carried(address)) is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address within: mapped, 6to4, NAT64 or ISATAP."""
    number = int(address)
    if address in _NAT64 or (number >> 32 & _IPV4_BITS) in _ISATAP:
        return ipaddress.IPv4Address(number & _IPV4_BITS)
    return address.ipv4_mapped or address.sixtofour


def _is_metadata(address: Address) -> bool:
    inner = _carried(address) if isinstance(address, ipaddress.IPv6Address) else None
    return address in METADATA or inner in METADATA


def _refused(param: str, why: str) -> UnsupportedError:
    return UnsupportedError(f"{param}: {why}", param=param)
