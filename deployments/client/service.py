"""A running service, asked over HTTP with the caller's own key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from deployments.client.refusals import refusal
from deployments.local.address import LOOPBACK
from pipeline.errors import InputError, StageError, StageUnavailableError

CONNECT_S = 10.0
SILENCE_S = 600.0  # a long text, whole, or a queue before it


class Service:
    """Use it as a context manager.

    Every method raises what a refusal stands for, StageUnavailableError when nobody answers, and
    StageError when a reply breaks off.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        """Raises InputError for what is no address, or no key."""
        self.url = url.rstrip("/")
        host = _host(self.url)
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise InputError("the API key holds a character that no key has")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
            limits=httpx.Limits(),  # none: whoever has threads for it may ask
            trust_env=host not in LOOPBACK,  # the environment's proxies are for others
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A JSON document."""
        return self._document("GET", path, params=_said(params))

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """A JSON document; body: as httpx takes it."""
        return self._document("POST", path, **body)

    def delete(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A JSON document."""
        return self._document("DELETE", path, params=_said(params))

    def status(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON document of a page that answers 503 with one, too."""
        with self._heard():
            reply = self._http.get(path)
        if reply.status_code not in {httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE}:
            raise refusal(reply)
        return reply.status_code, self._read(reply)

    @contextmanager
    def streamed(self, method: str, path: str, **body: Any) -> Iterator[httpx.Response]:
        """A reply whose body comes as it is made."""
        with self._heard(), self._http.stream(method, path, **body) as reply:
            if not reply.is_success:
                reply.read()
                raise refusal(reply)
            yield reply

    def _document(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        with self._heard():
            reply = self._http.request(method, path, **more)
        if not reply.is_success:
            raise refusal(reply)
        return self._read(reply)

    def _read(self, reply: httpx.Response) -> dict[str, Any]:
        try:
            document = reply.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise InputError(f"{self.url} answers, but no timbre is there")
        return document

    @contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise StageUnavailableError(
                f"nobody answers at {self.url} ({error}); `timbre up` starts a service here, "
                "--url names another"
            ) from error
        except httpx.TimeoutException as error:
            raise StageError(f"{self.url} was silent for {SILENCE_S:g} s") from error
        except httpx.TransportError as error:
            raise StageError(f"the reply of {self.url} broke off: {error}") from error
        except httpx.InvalidURL as error:
            raise InputError(f"{self.url!r} is no address of a service: {error}") from error


def _host(url: str) -> str:
    try:
        parts = httpx.URL(url)
        if parts.scheme in {"http", "https"} and parts.host:
            return parts.host
    except httpx.InvalidURL:
        pass
    raise InputError(f"{url!r} is no address of a service: say http://HOST:PORT")


def _said(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those that have a value."""
    return {name: value for name, value in (params or {}).items() if value is not None}
