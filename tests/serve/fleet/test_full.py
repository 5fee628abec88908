"""A full LLM says so: 503 with Retry-After, and those who got a slot are served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serve.service_client import TEXT, ServiceClient
from tests.waiting import eventually

pytestmark = pytest.mark.serve

N_AT_ONCE = 6
LONG_TEXT = "One two three four five six seven eight nine ten. " * 3


def test_a_full_llm_is_503_with_retry_after_and_recovers(many: ServiceClient):
    expected = _speak(many, TEXT)
    assert expected.headers["x-quality"] in {"ok", "short", "loop", "endless"}
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        replies = list(pool.map(lambda _: _speak(many, LONG_TEXT), range(N_AT_ONCE)))
    refused = [reply for reply in replies if reply.status_code != httpx.codes.OK]
    assert 1 <= len(refused) < N_AT_ONCE
    for reply in refused:
        assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.json()["error"]["code"] == "overloaded"
        assert "1 slots are busy and 1 requests wait" in reply.json()["error"]["message"]
    assert eventually(lambda: many.gauge("llm-int8", "slots_active") == 0)
    assert eventually(lambda: many.busy() == (0, 0))
    assert _speak(many, TEXT).content == expected.content


def _speak(client: ServiceClient, text: str) -> httpx.Response:
    """By the variant that has one slot and room for one more request."""
    variant = {"model_variant": "int8"}
    return client.speak(input=text, seed=1, cache="off", step_audio=variant)
