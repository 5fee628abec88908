"""Between the service and a network: its ports, what its proxy obeys, an edge with TLS."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from deployments.doctor.listeners import is_loopback
from tests.edges import running_edge
from tests.serve.ray_cluster import dashboard
from tests.serve.service_client import ServiceClient, body

pytestmark = pytest.mark.serve


@pytest.mark.parametrize("underscored", [False, True])
def test_the_proxy_takes_no_orders_from_callers(client: ServiceClient, underscored: bool):
    """By the first, as Serve has it, a request would end after a millisecond."""
    orders = {
        "x-request-timeout-seconds": "0.001",
        "x-request-disconnect-disabled": "?1",
        "serve-multiplexed-model-id": "mine",
        "x-session-id": "mine",
    }
    if underscored:
        orders = {name.replace("-", "_"): value for name, value in orders.items()}
    reply = client.http.get("/readyz", headers=orders)
    assert reply.status_code == httpx.codes.OK
    assert client.http.post("/v1/audio/speech", json=body(), headers=orders).is_success


def test_serves_page_of_applications_is_nowhere(client: ServiceClient):
    """By the router's own answer; Serve's health is told as ours is."""
    reply = client.http.get("/-/routes")
    assert reply.status_code == httpx.codes.NOT_FOUND
    assert reply.json() == client.http.get("/nowhere").json()
    assert reply.headers["x-request-id"]
    assert client.http.get("/-/healthz").text == "success"


def hosts_of(service_pid: int, port: int) -> Iterator[str]:
    """Addresses on which processes of a service listen at this port."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == service_pid:
                for one in process.net_connections("tcp"):
                    is_it = one.laddr and one.laddr.port == port
                    if is_it and one.status == psutil.CONN_LISTEN:
                        yield one.laddr.ip


def test_a_local_service_and_its_dashboard_listen_on_loopback(client: ServiceClient):
    for port in (client.service.port, urlsplit(dashboard(client)).port):
        hosts = list(hosts_of(client.service.pid, port or 0))
        assert hosts
        assert all(map(is_loopback, hosts)), port


@pytest.mark.parametrize("name", ["haproxy of Ray", "nginx"])
def test_speech_through_an_edge_with_tls(client: ServiceClient, tmp_path: Path, name: str):
    expected = client.speak(response_format="pcm").content
    with running_edge(name, tmp_path, client.service.port) as edge:
        with httpx.Client(base_url=edge.url, verify=edge.tls, timeout=120) as http:
            while http.get("/edge/healthz").status_code != httpx.codes.OK:
                time.sleep(0.1)
            asked = body(response_format="pcm")
            with http.stream("POST", "/v1/audio/speech", json=asked) as reply:
                assert reply.status_code == httpx.codes.OK
                assert b"".join(reply.iter_bytes()) == expected
            assert reply.headers["x-request-id"]
            assert http.get("/-/routes").status_code == httpx.codes.NOT_FOUND
        with pytest.raises(httpx.ConnectError), httpx.Client(verify=True) as strangers:
            strangers.get(f"{edge.url}/healthz")
