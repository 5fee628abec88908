"""Fetches a clip from an address that a caller names: from allowed hosts, within bounds, once.

Nothing of the request that named it goes along: no credentials, no cookies, no headers; nor does
the service's own environment: no proxy, no .netrc. Redirects are followed here, each one checked as
the first address was, so a host that is allowed leads nowhere else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urljoin

import httpx

from deployments.config.outside.clip_settings import ClipSettings
from deployments.outbound.addresses import AllowedHosts, Resolver, Target, system_addresses
from pipeline.errors import (
    CapacityError,
    InputError,
    StageUnavailableError,
    TooLargeError,
)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
KINDS = ("audio/", "video/", "application/octet-stream", "binary/octet-stream", "application/ogg")
_OK = 200
_HEADERS = {
    "User-Agent": "timbre",
    "Accept": "audio/*, application/octet-stream;q=0.9, */*;q=0.1",
    "Accept-Encoding": "identity",  # a clip is compressed already, and nothing is unpacked here
}


class ClipFetcher:
    """Of one router. Use it from one event loop.

    resolver: what names mean. tls: whom to trust; None: as the system says (SSL_CERT_FILE).
    """

    def __init__(
        self,
        settings: ClipSettings,
        resolver: Resolver = system_addresses,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._hosts = AllowedHosts(settings.hosts, schemes=("https",), resolver=resolver)
        self._at_work = 0
        if settings.hosts:
            tls = tls or httpx.create_ssl_context()
        self._tls = tls

    @property
    def is_on(self) -> bool:
        """Whether any host is allowed."""
        return bool(self._settings.hosts)

    async def fetch(self, url: str, param: str, cover: Callable[[int], None]) -> bytes:
        """The clip at `url`.

        param: the field that it stood in. cover: is told the bytes held so far, and may raise.
        Raises UnsupportedError for an address that is not allowed, InputError for one that gives no
        clip in time, TooLargeError, CapacityError.
        """
        self._hosts.check(url, param)
        if self._at_work >= self._settings.at_once:
            raise CapacityError(f"{self._at_work} clips are being fetched; retry in a moment")
        self._at_work += 1
        try:
            async with asyncio.timeout(self._settings.total_s):
                return await self._followed(url, param, cover)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _failed(param, "its host takes too long") from error
        except (httpx.HTTPError, httpx.InvalidURL, StageUnavailableError) as error:
            raise _failed(param, "its host cannot be reached") from error
        finally:
            self._at_work -= 1

    async def _followed(self, url: str, param: str, cover: Callable[[int], None]) -> bytes:
        for _ in range(self._settings.max_redirects + 1):
            target = await self._hosts.resolve(url, param)
            found = await self._asked(target, param, cover)
            if isinstance(found, bytes):
                return found
            was, url = url, _joined(url, found, param)
            if was.startswith("https:") and not url.startswith("https:"):
                raise _failed(param, "its host leads away from https")
        raise _failed(param, f"more than {self._settings.max_redirects} redirects")

    async def _asked(self, target: Target, param: str, cover: Callable[[int], None]) -> bytes | str:
        """The clip, or where it is instead. A client of its own: no cookie is kept for the next."""
        async with httpx.AsyncClient(
            verify=self._tls or True,
            timeout=self._settings.idle_s,
            follow_redirects=False,
            trust_env=False,
        ) as client:
            async with client.stream(
                "GET",
                target.pinned,
                headers={**_HEADERS, "Host": target.host_header},
                extensions={"sni_hostname": target.host},
            ) as reply:
                if reply.status_code in REDIRECTS:
                    return reply.headers.get("location", "")
                self._check(reply, param)
                return await self._read(reply, param, cover)

    def _check(self, reply: httpx.Response, param: str) -> None:
        if reply.status_code != _OK:
            raise _failed(param, f"its host answered {reply.status_code}")
        if reply.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _failed(param, "it came compressed")
        kind = reply.headers.get("content-type", "").strip().lower()
        if kind and not kind.startswith(KINDS):
            raise _failed(param, f"what its host sent is no audio ({kind[:40]})")
        declared = reply.headers.get("content-length", "")
        if declared.isdecimal():
            self._check_size(int(declared), param)

    def _check_size(self, n_bytes: int, param: str) -> None:
        if n_bytes > self._settings.max_bytes:
            raise TooLargeError(
                f"{param}: the clip has over {self._settings.max_bytes} bytes (clips.max_bytes)",
                param=param,
            )

    async def _read(self, reply: httpx.Response, param: str, cover: Callable[[int], None]) -> bytes:
        content = bytearray()
        async for piece in reply.aiter_raw():
            content += piece
            self._check_size(len(content), param)
            cover(len(content))
        return bytes(content)


def _joined(url: str, location: str, param: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise _failed(param, "its host leads to what is no address") from error


def _failed(param: str, why: str) -> InputError:
    return InputError(f"{param}: the clip could not be fetched: {why}", param=param)
