"""Keys on a real service: an operator's own command makes them, routers obey."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.serve.guarded.conftest import ADMIN_KEY, Guarded

pytestmark = pytest.mark.serve
UNAUTHORIZED = httpx.codes.UNAUTHORIZED
MOST_S = 5.0  # until a revoked key is refused
IN_A_ROW = 12  # refusals, so that hardly a router has not said so
CLOSED = ("/v1/models", "/docs", "/openapi.json", "/", "/v1/cache", "/v1/keys", "/nowhere",
          "/-/routes")  # fmt: skip


def test_nothing_but_health_is_told_without_a_key(guarded: Guarded):
    for path in CLOSED:
        assert (guarded.status(path), path) == (401, path)
    assert guarded.speak({}).status_code == UNAUTHORIZED
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
    assert refused.value.response.status_code == UNAUTHORIZED
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
    revoked_s = taken_s = time.monotonic()
    refused = 0
    while refused < IN_A_ROW:  # by both routers
        refused += 1
        if guarded.status("/v1/models", (new, old)[refused % 2]) != UNAUTHORIZED:
            refused, taken_s = 0, time.monotonic()
        assert taken_s - revoked_s < MOST_S
        time.sleep(0.05)


def test_no_log_has_a_key(guarded: Guarded):
    _, speaker = guarded.make()
    guarded.speak(speaker)
    guarded.status("/v1/keys", {"xi-api-key": ADMIN_KEY})
    secret = speaker["authorization"].rpartition("_")[2]
    log = guarded.client.log()
    assert "API keys are on" in log
    assert ADMIN_KEY not in log
    assert secret not in log
