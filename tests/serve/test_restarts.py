"""A voice outlives the service that encoded it: another on the same store need not encode it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache_helpers import S3Server
from tests.serve.conftest import Updatable, in_bucket, running, write_config
from tests.serve.service_client import ServiceClient, clip_of_its_own, cloned
from tests.waiting import eventually

pytestmark = pytest.mark.serve


def test_a_voice_survives_in_a_directory(client: ServiceClient, request: pytest.FixtureRequest):
    """Without anybody waiting for the write; the second Ray cluster shares nothing else."""
    asked = cloned(*clip_of_its_own())
    encodes, already = client.encodes(), written(client)
    made = client.http.post("/v1/audio/speech", json=asked)
    assert made.headers["x-cache"] == "miss"
    assert client.encodes() == encodes + 1
    assert eventually(lambda: written(client) > already)
    updatable: Updatable = request.getfixturevalue("updatable")  # starts only now
    second = updatable.client
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


def test_a_voice_survives_in_a_bucket(many: ServiceClient, s3_server: S3Server, tmp_path: Path):
    """Another Ray cluster, which shares the bucket alone."""
    clip, transcript = clip_of_its_own()
    asked = cloned(clip, transcript)
    assert many.http.post("/v1/cache/warm", content=clip).json()["is_durable"]
    made = many.http.post("/v1/audio/speech", json=asked)
    with running(tmp_path, write_config(tmp_path, cache=in_bucket(s3_server))) as second:
        found = second.http.post("/v1/audio/speech", json=asked)
        assert found.headers["x-cache"] == "l3"
        assert found.content == made.content
        assert second.encodes() == 0
