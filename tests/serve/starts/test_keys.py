"""Keys of the production config, as an operator makes them: its own command does, routers obey."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.serve.starts.conftest import KEY, Guarded

pytestmark = pytest.mark.serve
MOST_S = 5.0  # until a revoked key is refused
ASKED = 8  # often enough that both routers answer
CLOSED = ("/v1/models", "/docs", "/openapi.json", "/", "/v1/cache", "/v1/keys", "/nowhere",
          "/-/routes")  # fmt: skip


def test_nothing_but_health_is_told_without_a_key(guarded: Guarded):
    for path in CLOSED:
        assert (guarded.status(path), path) == (401, path)
    assert guarded.speak({}).status_code == httpx.codes.UNAUTHORIZED
    assert guarded.http.get("/readyz").json() == {"ready": True}
    operator = {"xi-api-key": KEY}
    detail = guarded.http.get("/readyz", headers=operator).json()
    assert detail["stages"].keys() >= {"llm", "vocoder"}


def test_a_key_counts_at_once_and_for_its_scope(guarded: Guarded):
    _, speaker = guarded.make()
    assert guarded.speak(speaker).status_code == httpx.codes.OK
    refused = guarded.http.get("/v1/audio/jobs", headers=speaker)
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
    while {guarded.status("/v1/models", new) for _ in range(ASKED)} != {httpx.codes.UNAUTHORIZED}:
        assert time.monotonic() - began_s < MOST_S
        time.sleep(0.05)
    assert guarded.status("/v1/models", old) == httpx.codes.UNAUTHORIZED


def test_no_log_has_a_key(guarded: Guarded):
    _, speaker = guarded.make()
    guarded.speak(speaker)
    guarded.status("/v1/keys", {"xi-api-key": KEY})
    secret = speaker["authorization"].rpartition("_")[2]
    log = guarded.production.log.read_text(errors="replace")
    assert "API keys are on" in log
    assert KEY not in log
    assert secret not in log
