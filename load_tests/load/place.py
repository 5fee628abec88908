"""Where load may go: to this machine, unless somebody says otherwise."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from pipeline.errors import ConfigError


def local_only(url: str, *, is_elsewhere: bool = False) -> str:
    """The address, checked. Raises ConfigError for another machine's, unless that is meant."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{url} is no address of a service; say http://127.0.0.1:8000")
    if is_elsewhere or parts.hostname == "localhost":
        return url
    try:
        is_here = ip_address(parts.hostname).is_loopback
    except ValueError:
        is_here = False
    if not is_here:
        raise ConfigError(
            f"{parts.hostname} is not this machine: load goes to 127.0.0.1, or say --elsewhere"
        )
    return url
