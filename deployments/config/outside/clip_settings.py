"""The section of the settings that describes clips that are given by their address."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from deployments.config.section import Positive, Seconds, Strict

SCHEMES = ("https", "http")


class ClipSettings(Strict):
    """Reference clips by URL, where callers may send them; by default nowhere."""

    hosts: tuple[str, ...] = ()
    """Hosts that clips are fetched from, such as "media.example" or "media.example:8443", by https;
    "http://media.example" allows plain HTTP. An address that is not public must be listed here
    itself. Empty: a URL in place of a clip gets 400."""
    max_bytes: Positive = 10 * 2**20
    """Largest clip that is fetched."""
    total_s: Seconds = 10.0
    """Longest time that one may take, redirects and all."""
    idle_s: Seconds = 3.0
    """Longest silence of its host."""
    max_redirects: Annotated[int, Field(ge=0, le=10)] = 3
    """Redirects that are followed, each to a host that is allowed itself."""
    at_once: Positive = 16
    """Clips that one router fetches at a time; further requests get 503."""

    @field_validator("hosts")
    @classmethod
    def _hosts_are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for entry in hosts:
            scheme, _, host = entry.rpartition("://")
            if (scheme and scheme not in SCHEMES) or not host or set(host) & set("/@?#* "):
                raise ValueError(
                    f"{entry!r} is no host: a name or address is expected, with a port where it is "
                    "not the usual one, and https:// or http:// in front if need be"
                )
        return hosts
