"""What the shipped edges do for the service behind them, each as a process of its own."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import websockets

from tests.cache_helpers import free_port
from tests.edges import BODY_BYTES, CONNECTIONS, EDGES, HEAD_S, RunningEdge, running_edge
from tests.waiting import wait_until

pytestmark = [pytest.mark.unit, pytest.mark.slow]
PATIENCE_S = 15


@pytest.fixture(scope="module", params=list(EDGES))
def edge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningEdge]:
    with running_edge(request.param, tmp_path_factory.mktemp("edge")) as one:
        yield one


@pytest.fixture
async def http(edge: RunningEdge):
    wait_until(lambda: httpx.get(f"{edge.url}/edge/healthz", verify=edge.tls).status_code == 200)
    async with httpx.AsyncClient(verify=edge.tls, base_url=edge.url, timeout=PATIENCE_S) as one:
        yield one


async def open_raw(
    edge: RunningEdge, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        "127.0.0.1", edge.port, ssl=tls or edge.tls, server_hostname="localhost"
    )


async def said_to(
    edge: RunningEdge, first: bytes, drops: bytes = b"", every_s: float = 0.1
) -> tuple[bytes, float]:
    """All that the edge says until it closes, and after how long."""
    began_s = time.monotonic()
    reader, writer = await open_raw(edge)

    async def drip() -> None:
        for byte in drops:
            writer.write(bytes([byte]))
            await asyncio.sleep(every_s)

    writer.write(first)
    dripping = asyncio.create_task(drip())
    said = b""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError, ssl.SSLError):
            while piece := await reader.read(65_536):
                said += piece
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    writer.close()
    return said, time.monotonic() - began_s


async def test_headers_that_serve_obeys_do_not_pass(edge: RunningEdge, http: httpx.AsyncClient):
    obeyed = [
        "x-request-timeout-seconds", "x-request-disconnect-disabled", "serve-multiplexed-model-id",
        "x-session-id",
    ]  # fmt: skip
    sent = dict.fromkeys(obeyed, "1") | {name.replace("-", "_"): "1" for name in obeyed}
    kept = {"authorization": "Bearer a", "xi-api-key": "b", "traceparent": "c"}
    reply = await http.post("/echo", headers={**sent, **kept}, content=b"x")
    (seen,) = reply.json()["headers"]
    assert not {name.replace("_", "-") for name in seen} & set(obeyed)
    assert kept.items() <= seen.items()


async def test_the_sender_is_who_connected_and_not_who_it_says_it_is(http: httpx.AsyncClient):
    lies = {"x-forwarded-for": "8.8.8.8", "x-forwarded-proto": "http", "forwarded": "for=8.8.8.8"}
    (seen,) = (await http.get("/x", headers={**lies, "x-forwarded-host": "evil"})).json()["headers"]
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert not {"forwarded", "x-forwarded-host"} & set(seen)


async def test_every_request_has_an_id_which_may_be_the_callers(http: httpx.AsyncClient):
    (first,) = (await http.get("/x")).json()["headers"]
    (second,) = (await http.get("/x")).json()["headers"]
    assert len(first["x-request-id"]) >= 32
    assert first["x-request-id"] != second["x-request-id"]
    (mine,) = (await http.get("/x", headers={"x-request-id": "mine"})).json()["headers"]
    assert mine["x-request-id"] == "mine"


async def test_audio_comes_as_it_is_made(http: httpx.AsyncClient):
    at_s: list[float] = []
    async with http.stream("POST", "/stream", content=b"x") as reply:
        async for _ in reply.aiter_raw():
            at_s.append(time.monotonic())  # noqa: PERF401 - as they come
    assert at_s[-1] - at_s[0] > 0.3, "of 0.6 s"


async def test_first_audio_may_come_late(http: httpx.AsyncClient):
    """Later than a client may be silent: it is the service that is silent."""
    assert (await http.post("/late", content=b"x")).content == b"late"


async def test_a_body_over_the_limit_does_not_pass(edge: RunningEdge, http: httpx.AsyncClient):
    edge.behind.asked.clear()
    reply = await http.post("/large", content=b"x" * (BODY_BYTES + 1))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
    assert not edge.behind.asked
    fits = await http.post("/fits", content=b"x" * BODY_BYTES)
    assert fits.json()["n_bytes"] == BODY_BYTES


async def test_a_body_of_unknown_length_passes_or_is_bounded(http: httpx.AsyncClient):
    async def pieces(n: int):
        for _ in range(n):
            yield b"x" * 10_000

    assert (await http.post("/fits", content=pieces(9))).json()["n_bytes"] == 90_000


@pytest.mark.parametrize(
    ("first", "drops"),
    [
        (b"", b""),
        (b"POST /slow HTTP/1.1\r\nHost: a\r\n", b""),
        (b"POST /slow HTTP/1.1\r\nHost: a\r\n", b"a: b\r\n" * 30),
        (b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n", b""),
    ],
    ids=["nothing", "half a head", "a head byte by byte", "no body"],
)
async def test_who_is_slow_reaches_no_router(edge: RunningEdge, first: bytes, drops: bytes):
    edge.behind.asked.clear()
    said, took_s = await said_to(edge, first, drops)
    assert took_s < HEAD_S + 4
    assert not said or b" 408 " in said.split(b"\r\n")[0]
    assert not edge.behind.asked


async def test_who_leaves_is_spoken_to_no_longer(edge: RunningEdge):
    """Before the first audio, too."""
    edge.behind.gone.clear()
    _, writer = await open_raw(edge)
    writer.write(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    await writer.drain()
    wait_until(lambda: "/wait" in edge.behind.asked, PATIENCE_S)
    writer.transport.abort()
    assert await asyncio.to_thread(edge.behind.gone.wait, PATIENCE_S)


async def test_a_websocket_passes_and_stays_open(edge: RunningEdge):
    url = f"wss://localhost:{edge.port}/v1/audio/speech/stream"
    async with websockets.connect(url, ssl=edge.tls, proxy=None) as socket:
        for word in ("one", "two"):
            await socket.send(word)
            assert await socket.recv() == f"heard {word}"
            await asyncio.sleep(2.5)  # longer than any silence of HTTP


async def test_no_other_upgrade_passes(edge: RunningEdge):
    first = (
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n\r\n"
    )
    said, _ = await said_to(edge, first)
    assert said.startswith(b"HTTP/1.1 200 ")


async def test_serves_own_pages_are_nobodys(edge: RunningEdge, http: httpx.AsyncClient):
    edge.behind.asked.clear()
    for path in ("/-/routes", "/-/healthz", "/%2d/routes", "//-/routes"):
        reply = await http.get(path)
        assert reply.status_code == 404 or edge.behind.asked.pop() != "/-/routes", path
    reply = await http.get("/-/routes")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "http_error")


async def test_old_protocols_and_plain_http_are_refused(edge: RunningEdge):
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await open_raw(edge, old)
    edge.behind.asked.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"GET /plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    said = await reader.read()
    writer.close()
    assert b"200" not in said.split(b"\r\n")[0]
    assert not edge.behind.asked


async def test_one_address_has_so_many_connections(edge: RunningEdge):
    """HAProxy closes the next one, nginx says 429 to its request."""
    ask = b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
    edge.behind.asked.clear()
    held: list[asyncio.StreamWriter] = []
    try:
        for _ in range(CONNECTIONS):
            _, writer = await open_raw(edge)
            held.append(writer)
            writer.write(ask)
        await asyncio.to_thread(
            wait_until, lambda: len(edge.behind.asked) == CONNECTIONS, PATIENCE_S
        )
        said = b""
        with suppress(ConnectionError, ssl.SSLError):
            said, _ = await said_to(
                edge, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
        assert b" 429 " in said.split(b"\r\n")[0] if edge.is_nginx else not said
        assert len(edge.behind.asked) == CONNECTIONS
    finally:
        for writer in held:
            writer.transport.abort()


async def test_its_health_is_that_of_the_service(edge: RunningEdge, http: httpx.AsyncClient):
    assert (await http.get("/edge/healthz")).status_code == 200
    edge.behind.is_well = False
    try:
        wait_until(
            lambda: httpx.get(f"{edge.url}/edge/healthz", verify=edge.tls).status_code == 503,
            PATIENCE_S,
            every_s=0.3,
        )
    finally:
        edge.behind.is_well = True
    wait_until(
        lambda: httpx.get(f"{edge.url}/edge/healthz", verify=edge.tls).status_code == 200,
        PATIENCE_S,
        every_s=0.3,
    )


@pytest.mark.parametrize("name", list(EDGES))
async def test_where_no_router_is_the_reply_says_to_come_again(name: str, tmp_path: Path):
    with running_edge(name, tmp_path, service_port=free_port()) as edge:
        async with httpx.AsyncClient(verify=edge.tls, base_url=edge.url) as http:
            deadline_s = time.monotonic() + PATIENCE_S
            while (reply := await http.post("/x", content=b"x")).status_code != 503:
                assert time.monotonic() < deadline_s, reply.text
                await asyncio.sleep(0.3)
            assert json.loads(reply.content)["error"]["type"] == "server_error"
            assert reply.headers["retry-after"] == "2"
            assert (await http.get("/edge/healthz")).status_code in {502, 503}
