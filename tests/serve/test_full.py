"""A full LLM says so: 503 with Retry-After, and those who got a slot are served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serve.conftest import running, write_config
from tests.serve.service_client import ServiceClient
from tests.waiting import eventually

pytestmark = pytest.mark.serve

N_AT_ONCE = 6


def test_a_full_llm_is_503_with_retry_after_and_recovers(tmp_path: Path):
    llm = {"device": "cpu", "threads": 1, "slots": 1, "queue_size": 1}
    config = write_config(tmp_path, cache={"url": str(tmp_path / "voices")}, llm=llm)
    with running(tmp_path, config) as client:
        expected = client.speak(seed=1)
        assert expected.headers["x-quality"] in {"ok", "short", "loop", "endless"}
        with ThreadPoolExecutor(N_AT_ONCE) as pool:
            replies = list(pool.map(lambda _: _speak(client), range(N_AT_ONCE)))
        refused = [reply for reply in replies if reply.status_code != httpx.codes.OK]
        assert 1 <= len(refused) < N_AT_ONCE
        for reply in refused:
            assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] == "overloaded"
            assert "1 slots are busy and 1 requests wait" in reply.json()["error"]["message"]
        assert eventually(lambda: client.busy() == (0, 0))
        assert client.speak(seed=1).content == expected.content


def _speak(client: ServiceClient) -> httpx.Response:
    return client.speak(input="One two three four five six seven eight nine ten. " * 3, seed=1)
