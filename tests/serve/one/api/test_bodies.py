"""What only the way through Serve's proxy shows: offers to upgrade, HEAD, a large form."""

from __future__ import annotations

import base64
import json
import socket

import httpx
import pytest

from tests.serve.service_client import ServiceClient, body, listed_clip
from tests.waiting import GIVE_UP_S

pytestmark = pytest.mark.serve


def test_a_client_that_offers_to_upgrade_is_served_twice(client: ServiceClient):
    """As Java's HttpClient asks of every http:// address."""
    content = json.dumps(body(response_format="wav")).encode()
    head = (
        "POST /v1/audio/speech HTTP/1.1\r\nHost: timbre\r\nContent-Type: application/json\r\n"
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode()
    address = (client.service.host, client.service.port)
    with socket.create_connection(address, timeout=GIVE_UP_S) as link:
        for _ in range(2):
            link.sendall(head + content)
            reply = b""
            while not reply.endswith(b"\r\n0\r\n\r\n"):
                piece = link.recv(65_536)
                assert piece, reply[:200]
                reply += piece
            assert reply.startswith(b"HTTP/1.1 200 ")
            assert b"RIFF" in reply


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/v1/voices"])
def test_head_is_answered(client: ServiceClient, path: str):
    head = client.http.head(path)
    assert (head.status_code, head.content) == (httpx.codes.OK, b"")


def test_a_large_form_is_served(client: ServiceClient):
    clip, said = listed_clip("bruno")
    encoded = base64.b64encode(clip + bytes(2**21)).decode()
    payload = json.dumps(body(ref_audio=encoded, ref_text=said, response_format="wav"))
    files = {"payload": ("blob", payload.encode(), "application/json")}
    reply = client.http.post("/v1/audio/speech", files=files)
    assert reply.status_code == httpx.codes.OK, reply.text
    assert reply.content[:4] == b"RIFF"
