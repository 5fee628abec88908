"""The closed loop of `timbre bench`, against a port that answers when all clients have asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deployments.client.load import closed_loop, summary
from deployments.client.service import Service

pytestmark = pytest.mark.unit
CLIENTS = 120  # more than an HTTP client's pool has connections, unless it is told


class Crowd(ThreadingHTTPServer):
    request_queue_size = 2 * CLIENTS
    daemon_threads = True


class Together(BaseHTTPRequestHandler):
    """Silence of a second, once as many ask as there are clients."""

    everybody = threading.Barrier(CLIENTS)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.everybody.wait(5.0)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(bytes(48_000))

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with Crowd(("127.0.0.1", 0), Together) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_as_many_clients_as_are_asked_for_call_at_a_time(url: str):
    with Service(url) as service:
        made = closed_loop(service, "aria", clients=CLIENTS, calls=CLIENTS, done=lambda: None)
    assert summary(*made)["answered"] == CLIENTS
