"""Clips by URL, from real servers on this machine: what is fetched, from where, and how much."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deployments.config.outside.clip_settings import ClipSettings
from deployments.config.settings import load_settings
from deployments.outbound.addresses import AllowedHosts
from deployments.outbound.clips import ClipFetcher
from pipeline.errors import CapacityError, ConfigError, InputError, TooLargeError, UnsupportedError
from tests.certificates import write_certificate
from tests.http_app import CLIP, SAID, error_of, http_app

pytestmark = pytest.mark.unit
LOOPBACK = "127.0.0.1"
PARAM = "ref_audio"
Answer = bytes | Callable[[asyncio.StreamWriter], Any]


def reply(
    body: bytes = CLIP, status: str = "200 OK", kind: str = "audio/wav", more: str = ""
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def moved(to: str, status: int = 302) -> bytes:
    return reply(b"", f"{status} Found", more=f"Location: {to}\r\nSet-Cookie: a=b; Path=/\r\n")


class Host:
    """A server that answers by path, and keeps the heads of what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            answer = self.answers[head.split()[1]]
            if callable(answer):
                await answer(writer)
            else:
                writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has had enough
        finally:
            writer.close()

    def url(self, path: str = "/clip.wav", name: str = LOOPBACK, scheme: str = "http") -> str:
        return f"{scheme}://{name}:{self.port}{path}"


@asynccontextmanager
async def hosting(tls: ssl.SSLContext | None = None) -> AsyncIterator[Host]:
    host = Host()
    host.answers["/clip.wav"] = reply()
    server = await asyncio.start_server(host.serve, LOOPBACK, 0, ssl=tls)
    host.port = server.sockets[0].getsockname()[1]
    async with server:
        yield host


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with hosting() as one:
        yield one


def fetcher(host: Host, *more: str, **settings: Any) -> ClipFetcher:
    hosts = (f"http://{LOOPBACK}:{host.port}", *more)
    return ClipFetcher(ClipSettings(hosts=hosts, **settings))


def uncounted(_: int) -> None:
    return


async def fetched(one: ClipFetcher, url: str) -> bytes:
    return await one.fetch(url, PARAM, uncounted)


async def test_a_clip_is_fetched_with_nothing_of_ours(host: Host, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    counted: list[int] = []
    assert await fetcher(host).fetch(host.url(), PARAM, counted.append) == CLIP
    assert counted[-1] == len(CLIP)
    (head,) = host.asked
    fields = {line.partition(":")[0].lower() for line in head.splitlines()[1:] if line}
    assert fields == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert "accept-encoding: identity" in head.lower()


async def test_it_is_off_by_default(host: Host):
    one = ClipFetcher(ClipSettings())
    assert not one.is_on
    with pytest.raises(UnsupportedError, match="not allowed by this service") as caught:
        await fetched(one, host.url())
    assert caught.value.param == PARAM
    assert not host.asked


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost:{port}/clip.wav", "not allowed by this service"),
        ("https://127.0.0.1:{port}/clip.wav", "not allowed by https"),
        ("http://127.0.0.1/clip.wav", "not allowed"),
        ("http://a:b@127.0.0.1:{port}/clip.wav", "user or password"),
        ("http://127.0.0.1:{port}@evil.example/", "user or password"),
        ("http://2130706433:{port}/clip.wav", "not allowed"),
        ("http://[::ffff:127.0.0.1]:{port}/clip.wav", "not allowed"),
        ("http://127.1:{port}/clip.wav", "not allowed"),
    ],
)
async def test_another_host_is_not_asked(host: Host, url: str, says: str):
    with pytest.raises(UnsupportedError, match=says):
        await fetched(fetcher(host), url.format(port=host.port))
    assert not host.asked


async def test_redirects_are_followed_without_the_cookies_they_set(host: Host):
    host.answers |= {"/a": moved("/b", 301), "/b": moved(host.url(), 307)}
    assert await fetched(fetcher(host), host.url("/a")) == CLIP
    assert len(host.asked) == 3
    assert not any("cookie" in head.lower() for head in host.asked)


async def test_only_so_many(host: Host):
    host.answers |= {"/a": moved("/a"), "/b": moved("/clip.wav")}
    with pytest.raises(InputError, match="more than 3 redirects"):
        await fetched(fetcher(host), host.url("/a"))
    assert len(host.asked) == 4
    with pytest.raises(InputError, match="more than 0 redirects"):
        await fetched(fetcher(host, max_redirects=0), host.url("/b"))


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/", "http://localhost:{port}/clip.wav", "//[::1]/",
        "http://127.0.0.1:22/", "file:///etc/passwd", "data:audio/wav;base64,AAAA",
        "gopher://127.0.0.1:{port}/", "http://a:b@127.0.0.1:{port}/clip.wav", "http://[/",
        "https://127.0.0.1:{port}/clip.wav",
    ],
)  # fmt: skip
async def test_a_redirect_leads_nowhere_else(host: Host, to: str):
    host.answers["/a"] = moved(to.format(port=host.port))
    with pytest.raises(InputError):
        await fetched(fetcher(host), host.url("/a"))
    assert len(host.asked) == 1


async def test_a_redirect_leads_to_another_host_that_is_allowed(host: Host):
    async with hosting() as other:
        host.answers["/a"] = moved(other.url())
        both = fetcher(host, f"http://{LOOPBACK}:{other.port}")
        assert await fetched(both, host.url("/a")) == CLIP
        assert f"host: {LOOPBACK}:{other.port}" in other.asked[0].lower()


class FlippingNames:
    """A resolver whose answers are another's turn each time: what DNS rebinding does."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        del port
        self.asked.append(host)
        return self._answers.pop(0)


async def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(host: Host):
    """The first answer is allowed and is this server; the second would be a metadata service."""
    names = FlippingNames([LOOPBACK], ["169.254.169.254"])
    hosts = (f"http://media.example:{host.port}", f"http://{LOOPBACK}:{host.port}")
    one = ClipFetcher(ClipSettings(hosts=hosts), names)
    url = host.url(name="media.example")
    assert await fetched(one, url) == CLIP
    assert names.asked == ["media.example"]
    assert f"host: media.example:{host.port}" in host.asked[0].lower()
    with pytest.raises(UnsupportedError, match="not a public one"):
        await fetched(one, url)
    assert len(host.asked) == 1


async def test_a_name_that_changes_its_mind_between_redirects(host: Host):
    host.answers["/a"] = moved("/clip.wav")
    names = FlippingNames([LOOPBACK], ["10.0.0.1"])
    hosts = (f"http://media.example:{host.port}", f"http://{LOOPBACK}:{host.port}")
    with pytest.raises(UnsupportedError, match="not a public one"):
        await fetched(
            ClipFetcher(ClipSettings(hosts=hosts), names), host.url("/a", "media.example")
        )
    assert len(names.asked) == 2
    assert len(host.asked) == 1


async def test_one_private_address_among_public_ones_is_enough(host: Host):
    names = FlippingNames(["93.184.216.34", "127.0.0.1"])
    one = ClipFetcher(ClipSettings(hosts=("media.example",)), names)
    with pytest.raises(UnsupportedError, match="not a public one"):
        await fetched(one, "https://media.example/clip.wav")


async def test_a_metadata_service_is_refused_even_where_somebody_lists_it():
    hosts = AllowedHosts(["http://169.254.169.254", "http://168.63.129.16"])
    for address in ("169.254.169.254", "168.63.129.16"):
        with pytest.raises(UnsupportedError, match="not a public one"):
            await hosts.resolve(f"http://{address}/", PARAM)


@pytest.mark.parametrize(
    ("name", "is_served"), [("media.example", True), ("other.example", False), ("", False)]
)
async def test_the_name_is_checked_against_the_certificate(
    tmp_path: Path, name: str, is_served: bool
):
    """Though the address is pinned. Without a name of its own the certificate is not trusted."""
    pem = write_certificate(tmp_path, name or "media.example")
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(pem)
    trusted = ssl.create_default_context(cafile=pem if name else None)

    async def names(host: str, port: int) -> Sequence[str]:
        del host, port
        return [LOOPBACK]

    async with hosting(ours) as host:
        hosts = (f"media.example:{host.port}", f"{LOOPBACK}:{host.port}")
        one = ClipFetcher(ClipSettings(hosts=hosts), names, trusted)
        url = host.url(name="media.example", scheme="https")
        if is_served:
            assert await fetched(one, url) == CLIP
            host.answers["/clip.wav"] = moved(host.url(name="media.example"))
            with pytest.raises(InputError, match="away from https"):
                await fetched(one, url)
        else:
            with pytest.raises(InputError, match="cannot be reached"):
                await fetched(one, url)
            assert not host.asked


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (reply(status="404 Not Found"), InputError, "answered 404"),
        (reply(status="206 Partial Content"), InputError, "answered 206"),
        (reply(kind="text/html; charset=utf-8"), InputError, "no audio"),
        (reply(gzip.compress(CLIP), more="Content-Encoding: gzip\r\n"), InputError, "compressed"),
        (reply(b"x" * 200_001), TooLargeError, "clips.max_bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx", InputError, "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, InputError, "cannot be reached"),
        (b"220 smtp.example ESMTP\r\n", InputError, "cannot be reached"),
        (b"", InputError, "cannot be reached"),
    ],
)
async def test_what_is_no_clip_is_refused(
    host: Host, answer: bytes, kind: type[InputError], says: str
):
    host.answers["/clip.wav"] = answer
    with pytest.raises(kind, match=says) as caught:
        await fetched(fetcher(host, max_bytes=200_000), host.url())
    assert caught.value.param == PARAM


async def test_a_clip_without_an_end_is_cut_off(host: Host):
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    host.answers["/clip.wav"] = endless
    with pytest.raises(TooLargeError):
        await fetched(fetcher(host, max_bytes=100_000), host.url())
    assert sent < 20 * 2**20


async def test_a_chunked_clip_without_a_label_is_taken(host: Host):
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (CLIP[:999], CLIP[999:]))
    host.answers["/clip.wav"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        + body + b"0\r\n\r\n"
    )  # fmt: skip
    assert await fetched(fetcher(host), host.url()) == CLIP


@pytest.mark.parametrize(
    ("every_s", "bounds"),
    [(9.0, {"idle_s": 0.2}), (0.05, {"idle_s": 0.2, "total_s": 0.5})],
    ids=["silent", "a byte now and then"],
)
@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
async def test_a_slow_host_is_given_up(
    host: Host, every_s: float, bounds: dict[str, float], start: bytes
):
    async def slow(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        for byte in b"HTTP/1.1 200 OK\r\n" * 99:
            await asyncio.sleep(every_s)
            writer.write(bytes([byte]))
            await writer.drain()

    host.answers["/clip.wav"] = slow
    began_s = time.monotonic()
    with pytest.raises(InputError, match="takes too long"):
        await fetched(fetcher(host, **bounds), host.url())
    assert time.monotonic() - began_s < 3


async def test_so_many_at_once(host: Host):
    may_go = asyncio.Event()

    async def waits(writer: asyncio.StreamWriter) -> None:
        await may_go.wait()
        writer.write(reply())

    host.answers["/clip.wav"] = waits
    one = fetcher(host, at_once=2)
    both = [asyncio.create_task(fetched(one, host.url())) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(CapacityError):
        await fetched(one, host.url())
    may_go.set()
    assert await asyncio.gather(*both) == [CLIP, CLIP]
    assert await fetched(one, host.url()) == CLIP


async def test_what_the_budget_refuses_is_not_fetched_on(host: Host):
    def full(n_bytes: int) -> None:
        raise CapacityError("full")

    with pytest.raises(CapacityError):
        await fetcher(host).fetch(host.url(), PARAM, full)


@pytest.mark.parametrize("entry", ["ftp://a", "https://", "a/b", "user@a", "a b", ""])
def test_a_host_that_is_none_stops_the_start(entry: str):
    with pytest.raises(ConfigError, match="is no host"):
        load_settings({"clips": {"hosts": [entry]}})


async def test_speech_in_the_voice_of_a_clip_by_url(host: Host):
    async with http_app(clips={"hosts": [f"http://{LOOPBACK}:{host.port}"]}) as app:
        for fields in (
            {"ref_audio": host.url(), "ref_text": SAID},
            {"references": [{"audio_path": host.url(), "text": SAID}]},
            {"step_audio": {"prompt_audio_url": host.url(), "prompt_text": SAID}},
        ):
            request = await app.spoken(**fields)
            assert request.transcript == SAID
        assert len(host.asked) == 3
        item = {"input": "Hello there.", "ref_audio": host.url(), "ref_text": SAID}
        batch = await app.http.post("/v1/audio/speech/batch", json={"items": [item]})
        assert batch.json()["succeeded"] == 1, batch.text
        host.answers["/clip.wav"] = reply(b"no audio at all" * 99)
        bad = await app.speak(ref_audio=host.url(), ref_text=SAID)
        assert (bad.status_code, error_of(bad)["param"]) == (415, "ref_audio")
        elsewhere = await app.speak(ref_audio="https://evil.example/a.wav", ref_text=SAID)
        assert (elsewhere.status_code, error_of(elsewhere)["param"]) == (400, "ref_audio")
        wordless = await app.speak(ref_audio=host.url())
        assert (wordless.status_code, error_of(wordless)["param"]) == (400, "ref_text")
        assert app.routes.budget.held_bytes == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.wav", "HTTPS://media.example/a.wav"])
async def test_where_none_are_fetched_the_setting_is_named(url: str):
    async with http_app() as app:
        refused = await app.speak(ref_audio=url, ref_text=SAID)
        assert refused.status_code == 400
        assert error_of(refused)["param"] == "ref_audio"
        assert "clips.hosts" in error_of(refused)["message"]


async def test_other_schemes_and_data_beyond_the_bound_are_refused_as_before(host: Host):
    allowed = {"hosts": [f"http://{LOOPBACK}:{host.port}"]}
    async with http_app(clips=allowed, limits={"max_body_bytes": 100_000}) as app:
        for url in ("file:///etc/passwd", "ftp://127.0.0.1/a.wav", "s3://bucket/clip.wav"):
            refused = await app.speak(ref_audio=url, ref_text=SAID)
            assert refused.status_code == 400, url
        large = await app.speak(ref_audio="data:audio/wav;base64," + "A" * 200_000, ref_text=SAID)
        assert large.status_code == 413
