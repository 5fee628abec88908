"""Checks of who can reach what: keys, Ray's ports and token, TLS, headers that Serve obeys."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from deployments.doctor.findings import Finding, fault, good, unknown, warning
from deployments.doctor.listeners import DASHBOARD, EDGES, PROXY, Listener, is_loopback, of_program
from deployments.doctor.site import Site

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
OUR_HOOK = "deployments.http.proxy:set_up_proxy"
TOKEN_MODE = "RAY_AUTH_MODE"  # noqa: S105 - the name of a variable
_SHOWN = 6  # listeners that one line names
_NO_CONFIG = unknown("the config holds a mistake")
_NO_PORTS = unknown("this user may not see who listens here")


def keys(site: Site) -> Finding:
    """Whether strangers may use the service."""
    if site.settings is None:
        return _NO_CONFIG
    word = site.settings.access.keys
    if word == "on":
        return good("every request but health needs a key")
    if is_loopback(site.host):
        return good(f"keys are {word}, and the service listens on {site.host} alone")
    if word == "off":
        return fault(
            f"keys are off, and the service is to listen on {site.host}: whoever reaches it may "
            "use and delete everything",
            "access: { keys: on }, then `timbre keys create`; or http_options.host: 127.0.0.1",
        )
    return warning(
        f"keys are off on purpose, and the service is to listen on {site.host}",
        "let nobody reach that port but what asks for credentials in front of it",
    )


def listening(site: Site) -> Finding:
    """On which interfaces the service and Ray are, now."""
    if site.ports is None:
        return _NO_PORTS
    ours = [one for one in site.ports if one.is_rays]
    if not ours:
        return unknown("no service and no Ray runs here")
    reachable = [one for one in ours if one.is_reachable]
    if not reachable:
        return good(f"{len(ours)} ports of Ray and Serve, all on loopback")
    return warning(
        f"{len(reachable)} of {len(ours)} ports are on other interfaces: {_named(reachable)}",
        "a firewall lets only the cluster's own machines reach Ray's (docs/edge.md)",
    )


def ray_token(site: Site) -> Finding:
    """Without a token, whoever reaches one of Ray's ports runs code as this user."""
    rays = [one for one in site.ports or () if one.is_rays]
    bare = [one for one in rays if one.has_token is False and one.program != PROXY]
    if not bare:
        if any(one.has_token for one in rays):
            return good("every process of Ray here asks for the token")
        if site.environment.get(TOKEN_MODE, "").lower() == "disabled":
            return fault(f"{TOKEN_MODE} is disabled", f"unset it, or set {TOKEN_MODE}=token")
        if site.environment.get(TOKEN_MODE, "").lower() == "token":
            return good(f"{TOKEN_MODE}=token")
        return unknown(
            f"no Ray runs here and {TOKEN_MODE} is not set: `timbre up` sets it, `ray start` as in "
            "cluster.yaml"
        )
    remedy = f"start Ray with {TOKEN_MODE}=token (`ray get-auth-token --generate` makes one)"
    reachable = [one for one in bare if one.is_reachable]
    if reachable:
        return fault(f"without a token, whoever reaches it runs code: {_named(reachable)}", remedy)
    return warning(f"programs of this machine run code without a token: {_named(bare)}", remedy)


def dashboard(site: Site) -> Finding:
    """It starts jobs, which is to run code, and shows logs and variables."""
    if site.ports is None:
        return _NO_PORTS
    found = list(of_program(site.ports, DASHBOARD))
    if not found:
        return unknown("no dashboard runs here")
    reachable = [one for one in found if one.is_reachable]
    if not reachable:
        return good("on loopback alone")
    remedy = "--dashboard-host=127.0.0.1, and `ray dashboard` or an SSH tunnel to look at it"
    if all(one.has_token for one in reachable):
        return warning(f"others can reach it, with the token: {_named(reachable)}", remedy)
    return fault(f"others can reach it: {_named(reachable)}", remedy)


def tls(site: Site) -> Finding:
    """Keys and voices cross the network in the clear without it."""
    if site.config is None:
        return _NO_CONFIG
    options = site.http_options
    if options.get("ssl_certfile") and options.get("ssl_keyfile"):
        return good("Serve's proxy speaks TLS itself")
    edges = [one for one in site.ports or () if one.program in EDGES and one.is_reachable]
    if is_loopback(site.host):
        said = f"an edge is there ({_named(edges)})" if edges else "nobody else reaches it"
        return good(f"the service listens on {site.host} alone; {said}")
    if edges:
        return warning(
            f"an edge is there ({_named(edges)}), and http_options.host is {site.host}: who knows "
            f"port {site.port} goes around it",
            "listen on 127.0.0.1, or let a firewall keep others from that port",
        )
    return warning(
        f"plain HTTP on {site.host}:{site.port}, and no edge runs here",
        "put deploy/haproxy.cfg or deploy/nginx.conf in front (docs/edge.md)",
    )


def serves_controls(site: Site) -> Finding:
    """Headers by which callers switch off Serve's limits, if nothing takes them out."""
    if site.config is None:
        return _NO_CONFIG
    options = site.config.document.get("controller_options") or {}
    variables = (options.get("runtime_env") or {}).get("env_vars") or {}
    if variables.get(CALLBACK) == OUR_HOOK:
        return good("the proxy takes orders from nobody, and waits for no slow client")
    return fault(
        "without our hook Serve's proxy obeys callers' headers and waits for slow ones for ever",
        f"controller_options.runtime_env.env_vars: {{ {CALLBACK}: {OUR_HOOK} }}",
    )


def outbound(site: Site) -> Finding:
    """What the service asks of addresses that its callers name."""
    if (settings := site.settings) is None:
        return _NO_CONFIG
    hosts = [*settings.clips.hosts, *settings.jobs.webhook_hosts]
    if not hosts:
        return good("callers' addresses are not asked for anything")
    secret = settings.jobs.webhook_secret_env
    if settings.jobs.webhook_hosts and not site.environment.get(secret):
        return fault(
            f"jobs.webhook_hosts names hosts, and {secret} is not set: no webhook is taken",
            f"put a secret into {secret} where the service starts",
        )
    plain = [one for one in settings.clips.hosts if urlsplit(one).scheme == "http"]
    if plain:
        return warning(
            f"clips are fetched without TLS from {', '.join(plain)}", "https, if they can"
        )
    return good(f"only {', '.join(hosts)} may be asked")


def _named(some: Sequence[Listener]) -> str:
    names = list(dict.fromkeys(one.shown for one in some))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
