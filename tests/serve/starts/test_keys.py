"""A service with keys on, as an operator starts it: its own command makes keys, routers obey."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from deployments.cli import app
from tests.serve.service_client import ServiceClient
from tests.serve.services import running, write_config

pytestmark = pytest.mark.serve
ADMIN_KEY = secrets.token_hex(20)
VARIABLE = "TIMBRE_TEST_OPERATOR"  # not one of the settings'
MOST_S = 5.0  # until a revoked key is refused
CLOSED = ("/v1/models", "/docs", "/openapi.json", "/", "/v1/cache", "/v1/keys", "/nowhere")


class Guarded:
    """The service and the config that its command works on."""

    def __init__(self, client: ServiceClient, config: Path) -> None:
        self.client, self.config = client, config
        self.address = client.service.url.replace("http", "ws", 1) + "/v1/audio/speech/stream"

    def keys(self, *words: str) -> Any:
        """What a command says."""
        done = CliRunner().invoke(app, ["keys", *words, "--config", str(self.config), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def make(self, scope: str = "speak") -> tuple[str, dict[str, str]]:
        """A key's id, and the headers of a request with it."""
        made = self.keys("create", "--tenant", "museum", "--scope", scope)
        return made["id"], {"authorization": f"Bearer {made['key']}"}

    def status(self, path: str, headers: dict[str, str] | None = None) -> int:
        return self.client.http.get(path, headers=headers or {}).status_code

    def speak(self, headers: dict[str, str]) -> httpx.Response:
        body = {"input": "One two.", "voice": "aria", "seed": 1}
        return self.client.http.post("/v1/audio/speech", json=body, headers=headers)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    access = {"keys": "on", "admin_key_env": VARIABLE}
    config = write_config(directory, cache={"url": str(directory / "store")}, access=access)
    with running(directory, config, **{VARIABLE: ADMIN_KEY}) as client:
        yield Guarded(client, config)


def test_nothing_but_health_is_told_without_a_key(guarded: Guarded):
    for path in CLOSED:
        assert (guarded.status(path), path) == (401, path)
    assert guarded.speak({}).status_code == httpx.codes.UNAUTHORIZED
    assert guarded.client.http.get("/readyz").json() == {"ready": True}
    operator = {"xi-api-key": ADMIN_KEY}
    detail = guarded.client.http.get("/readyz", headers=operator).json()
    assert detail["stages"].keys() >= {"llm", "vocoder"}


def test_a_key_counts_at_once_and_for_its_scope(guarded: Guarded):
    _, speaker = guarded.make()
    assert guarded.speak(speaker).status_code == httpx.codes.OK
    refused = guarded.client.http.get("/v1/audio/jobs", headers=speaker)
    assert refused.status_code == httpx.codes.FORBIDDEN
    assert 'scope="jobs"' in refused.headers["www-authenticate"]
    _, other = guarded.make("jobs")
    assert guarded.status("/v1/audio/jobs", other) == httpx.codes.OK
    assert guarded.speak(other).status_code == httpx.codes.FORBIDDEN


def test_a_websocket_has_its_key_in_the_handshake(guarded: Guarded):
    _, speaker = guarded.make()
    key = speaker["authorization"].removeprefix("Bearer ")
    with pytest.raises(InvalidStatus) as refused:
        connect(guarded.address, proxy=None)
    assert refused.value.response.status_code == httpx.codes.UNAUTHORIZED
    with connect(guarded.address, proxy=None, additional_headers=speaker):
        pass
    offered: Any = ["timbre", f"openai-insecure-api-key.{key}"]
    with connect(guarded.address, proxy=None, subprotocols=offered) as socket:
        assert socket.subprotocol == "timbre"


def test_a_key_is_rotated_and_revoked_while_the_service_runs(guarded: Guarded):
    key_id, old = guarded.make()
    assert guarded.status("/v1/models", old) == httpx.codes.OK
    new = {"xi-api-key": guarded.keys("rotate", key_id)["key"]}
    for headers in (new, old):
        assert guarded.status("/v1/models", headers) == httpx.codes.OK
    guarded.keys("revoke", key_id)
    began_s = time.monotonic()
    while guarded.status("/v1/models", new) == httpx.codes.OK:
        assert time.monotonic() - began_s < MOST_S
        time.sleep(0.05)
    assert guarded.status("/v1/models", old) == httpx.codes.UNAUTHORIZED


def test_no_log_has_a_key(guarded: Guarded):
    _, speaker = guarded.make()
    guarded.speak(speaker)
    guarded.status("/v1/keys", {"xi-api-key": ADMIN_KEY})
    secret = speaker["authorization"].rpartition("_")[2]
    log = guarded.client.log()
    assert "API keys are on" in log
    assert ADMIN_KEY not in log
    assert secret not in log
