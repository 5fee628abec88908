"""A voice outlives the service that encoded it: another on the same store need not encode it.

What a bucket keeps over kill -9: test_second_life.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.serve.one.life.conftest import FromWheel
from tests.serve.service_client import ServiceClient, clip_of_its_own, cloned
from tests.waiting import eventually

pytestmark = pytest.mark.serve


def test_a_voice_survives_in_a_directory(client: ServiceClient, later: Callable[[], FromWheel]):
    """Without anybody waiting for the write; the second Ray cluster shares nothing else."""
    asked = cloned(*clip_of_its_own(), cache="off")
    encodes, already = client.encodes(), written(client)
    made = client.http.post("/v1/audio/speech", json=asked)
    assert made.headers["x-cache"] == "miss"
    assert client.encodes() == encodes + 1
    assert eventually(lambda: written(client) > already)
    second = later().client
    encodes = second.encodes()
    found = second.http.post("/v1/audio/speech", json=asked)
    assert found.headers["x-cache"] == "l3"
    assert found.content == made.content
    assert second.encodes() == encodes
    again = second.http.post("/v1/audio/speech", json=asked)
    assert again.headers["x-cache"] == "l1"


def written(client: ServiceClient) -> int:
    """Records that reached the store in the background."""
    return client.http.get("/v1/cache").json()["tiers"]["l3"]["writeback_written"]
