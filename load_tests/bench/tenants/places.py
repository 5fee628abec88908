"""Where two tenants are: the whole HTTP application in this process, or a service on Ray."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.two_tenants import Tenant

SCOPES = ("speak", "voices", "edits", "jobs", "cache")
ADMIN_VARIABLE = "TIMBRE_BENCH_OPERATOR"
WALL, CPU = "the clock on the wall", "processor time"
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """client: one with these headers. admin_key: the operator's.

    clocks: by name. What a caller sees is the wall's; where all work is in this process, its
    processor time tells the same without what others on the machine do.
    """

    client: Callable[[Headers], httpx.AsyncClient]
    admin_key: str
    clocks: Mapping[str, Callable[[], float]]

    async def tenant(self, name: str, namespace: str) -> Tenant:
        """Somebody with a key of a namespace of the cluster."""
        async with self.client({"xi-api-key": self.admin_key}) as operator:
            asked = {"tenant": namespace, "scopes": SCOPES}
            made = (await operator.post("/v1/keys", json=asked)).raise_for_status()
        return Tenant(name, self.client({"xi-api-key": made.json()["key"]}))


@asynccontextmanager
async def in_process() -> AsyncIterator[Place]:
    """Fakes of the stages, a real store in a directory."""
    from tests.unit.deployments.http.routes.edit_app import editing

    with TemporaryDirectory() as name:
        key_file, admin_key = Path(name) / "admin.key", secrets.token_hex(20)
        key_file.write_text(admin_key)
        access = {"keys": "on", "admin_key_file": str(key_file)}
        async with editing(Path(name) / "store", access=access) as app:

            def client(headers: Headers) -> httpx.AsyncClient:
                transport = httpx.ASGITransport(app.app, raise_app_exceptions=False)
                return httpx.AsyncClient(
                    transport=transport, base_url="http://timbre", headers=headers
                )

            clocks = {WALL: time.perf_counter, CPU: time.process_time}
            yield Place(client, admin_key, clocks)


@asynccontextmanager
async def on_service() -> AsyncIterator[Place]:
    """The shipped CPU config, keys on, all caches on; stages are real."""
    from tests.serve.services import running, write_config

    with TemporaryDirectory() as name:
        directory, admin_key = Path(name), secrets.token_hex(20)
        config = write_config(
            directory,
            cache={"url": str(directory / "store")},
            speech_cache={"enabled": True},
            access={"keys": "on", "admin_key_env": ADMIN_VARIABLE},
        )
        with running(directory, config, None, **{ADMIN_VARIABLE: admin_key}) as service:
            url = service.service.url

            def client(headers: Headers) -> httpx.AsyncClient:
                return httpx.AsyncClient(base_url=url, headers=headers, timeout=120.0)

            yield Place(client, admin_key, {WALL: time.perf_counter})
