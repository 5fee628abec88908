"""Checks of what would be started: its config, checkpoint, port, packages and store."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx

from deployments.config.named_things import missing_here, unknown_names
from deployments.doctor.findings import Finding, fault, good, unknown, warning
from deployments.doctor.site import Site
from deployments.local.address import LOOPBACK, url_of
from deployments.own_packages import stranger_on

STORE_ASK_S = 5.0  # and a service on this machine
SKEW_FAULT_S, SKEW_WARNING_S = 600.0, 30.0  # S3 refuses what is signed 15 minutes off
_NO_CONFIG = unknown("the config holds a mistake")


def config(site: Site) -> Finding:
    """Whether the service would start with it."""
    if site.config is None:
        return fault(site.mistake, f"timbre lint {site.path}")
    if problems := unknown_names(site.config.settings):
        return fault("; ".join(problems), f"mend {site.path}")
    return good(f"{site.path} is good")


def checkpoint(site: Site) -> Finding:
    """Whether everything that the config names is on this machine."""
    if site.settings is None:
        return _NO_CONFIG
    if problems := list(missing_here(site.settings)):
        return fault("; ".join(problems), f"timbre checkpoint download {site.settings.model}")
    return good(f"{site.settings.model} is here")


def packages(site: Site) -> Finding:
    """Whether the service would import its own code."""
    if (stranger := stranger_on([str(site.where)])) is not None:
        return fault(stranger, "start elsewhere")
    return good("its own come first")


def port(site: Site) -> Finding:
    """Whether the service's port is free, or its own."""
    if site.config is None:
        return _NO_CONFIG
    if site.ports is None:
        return unknown("this user may not see who listens here")
    taken = [one for one in site.ports if one.port == site.port]
    strangers = [one for one in taken if not one.is_rays]
    if strangers:
        return fault(
            f"port {site.port} is taken: {', '.join(sorted({one.shown for one in strangers}))}",
            "another http_options.port, or stop that program",
        )
    whose = "the service's own" if taken else "free"
    return good(f"port {site.port} is {whose}")


def readiness(site: Site) -> Finding:
    """Of the service that runs on the config's port, if any."""
    if site.config is None:
        return _NO_CONFIG
    ports = site.ports or ()
    found = next((one for one in ports if one.port == site.port and one.is_rays), None)
    if found is None:
        return unknown(f"no service runs on port {site.port}")
    if site.http_options.get("ssl_certfile"):
        return unknown("it speaks TLS: timbre status --url asks it by its name")
    is_everywhere = ipaddress.ip_address(found.host).is_unspecified
    url = url_of(LOOPBACK[0] if is_everywhere else found.host, site.port)
    address = f"{url}/readyz"
    remedy = "timbre logs; stages' own are in Ray's session directory; timbre down and up"
    try:
        reply = httpx.get(address, timeout=STORE_ASK_S, trust_env=False)
        stages = reply.json().get("stages", {})
    except (httpx.TransportError, ValueError, AttributeError) as error:
        return fault(f"{address} does not answer as a service does: {error}", remedy)
    if reply.status_code == httpx.codes.OK:
        return good("the service is ready")
    waiting = [f"{name} ({one['error']})" for name, one in stages.items() if "error" in one]
    said = f": {', '.join(waiting)}" if waiting else ""
    return fault(f"the service is not ready{said}", remedy)


def clock(site: Site) -> Finding:
    """This machine's against the store's, which refuses what is signed at another time."""
    if site.settings is None:
        return _NO_CONFIG
    cache = site.settings.cache
    if not cache.url.startswith(("s3://", "s3a://")):
        return unknown("the cache is in no bucket")
    endpoint = _endpoint(cache.storage_options, site.environment)
    reply = httpx.head(endpoint, timeout=STORE_ASK_S, follow_redirects=False)
    asked_unix_s = time.time()
    if "date" not in reply.headers:
        return unknown(f"{endpoint} tells no time")
    off_s = asked_unix_s - parsedate_to_datetime(reply.headers["date"]).timestamp()
    said = f"this clock and that of {endpoint} are {abs(off_s):.0f} s apart"
    if abs(off_s) > SKEW_FAULT_S:
        return fault(f"{said}: the bucket refuses every request", "NTP (chrony, timesyncd)")
    if abs(off_s) > SKEW_WARNING_S:
        return warning(said, "NTP (chrony, timesyncd)")
    return good(said)


def _endpoint(options: Mapping[str, object], environment: Mapping[str, str]) -> str:
    client = options.get("client_kwargs")
    told = options.get("endpoint_url") or (
        client.get("endpoint_url") if isinstance(client, dict) else None
    )
    named = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    return str(told or named or "https://s3.amazonaws.com")
