"""The cache over HTTP: warm, look, forget; failures that are the clip's own are remembered."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from pipeline.audio.decode import decode_clip
from tests.serve.one.api.test_limits import wav
from tests.serve.service_client import ServiceClient, cloned, listed_clip
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.serve


def lookups(client: ServiceClient, kind: str, tier: str, result: str) -> int:
    requests = client.http.get("/v1/cache").json()["requests"]
    return requests.get(kind, {}).get(tier, {}).get(result, 0)


def test_a_warmed_clip_is_durable_and_its_first_request_a_hit(client: ServiceClient):
    clip = wav(1.5)
    before = client.encodes()
    warmed = client.http.post("/v1/cache/warm", content=clip).json()
    assert warmed["tier"] == "miss"
    assert warmed["is_durable"]
    assert warmed["duration_s"] == pytest.approx(1.5)
    reply = client.http.post("/v1/audio/speech", json=cloned(clip, "a tone"))
    assert reply.headers["x-cache"] == "l1"
    assert client.encodes() == before + 1


def test_a_forgotten_clip_is_encoded_again(client: ServiceClient):
    clip, _ = listed_clip("bruno")
    warmed = client.http.post("/v1/cache/warm", content=clip).json()
    before = client.encodes()
    gone = client.http.delete(f"/v1/cache/{warmed['clip']}")
    assert gone.json() == {"clip": warmed["clip"], "deleted": True}
    assert client.http.post("/v1/cache/warm", content=clip).json()["tier"] == "miss"
    assert client.encodes() == before + 1


def test_a_forgotten_clip_leaves_nothing_behind(client: ServiceClient):
    """Neither in the cache's directory nor in the language model's memory."""
    clip = wav(1.75)
    voices = Path(client.service.log).parent / "voices"

    def files() -> set[Path]:
        return {file for file in voices.rglob("*") if file.is_file()}

    earlier = files()
    spoken = client.http.post("/v1/audio/speech", json=cloned(clip, "a tone"))
    assert spoken.status_code == 200
    digest = decode_clip(clip).digest
    # voice, vocoder's state, language model's prefix, alias and its note
    wait_until(lambda: len(files() - earlier) == 5)
    before = client.gauge("llm", "prefix_bytes")
    stored = files() - earlier
    assert any(digest in file.name for file in stored)  # the note beside the upload's alias
    gone = client.http.delete(f"/v1/cache/{digest}")
    assert gone.json() == {"clip": digest, "deleted": True}
    assert not stored & files()
    assert not [file for file in files() if digest in file.name]
    assert client.gauge("llm", "prefix_bytes") < before
    assert client.http.post("/v1/cache/warm", content=clip).json()["tier"] == "miss"


def test_a_clip_forgotten_while_it_is_encoded_is_answered_and_not_kept(client: ServiceClient):
    clip = wav(29.0)
    digest, before = decode_clip(clip).digest, client.encodes()
    with ThreadPoolExecutor(1) as pool:
        warming = pool.submit(client.http.post, "/v1/cache/warm", content=clip)
        wait_until(lambda: client.encodes() > before)
        assert client.http.delete(f"/v1/cache/{digest}").json()["deleted"]
        assert warming.result().json()["clip"] == digest
    assert client.http.post("/v1/cache/warm", content=clip).json()["tier"] == "miss"


def test_warming_takes_json_too(client: ServiceClient):
    clip, _ = listed_clip()
    body = {"audio": base64.b64encode(clip).decode(), "durability": "writeback"}
    assert client.http.post("/v1/cache/warm", json=body).status_code == httpx.codes.OK
    refused = client.http.post("/v1/cache/warm", json={**body, "durability": "never"})
    assert refused.status_code == 400
    assert "writethrough" in refused.json()["error"]["message"]


def test_a_clip_that_cannot_be_used_is_refused_from_memory_the_second_time(client: ServiceClient):
    silence = wav(1.25, level=0.0)
    first = client.http.post("/v1/cache/warm", content=silence)
    before = lookups(client, "alias", "l1", "negative")
    second = client.http.post("/v1/cache/warm", content=silence)
    assert first.status_code == second.status_code == 422
    assert first.json() == second.json()
    assert lookups(client, "alias", "l1", "negative") == before + 1


def test_a_malformed_clip_name_is_refused(client: ServiceClient):
    assert client.http.delete("/v1/cache/nonsense").status_code == 400


def test_the_state_names_every_tier(client: ServiceClient):
    def is_well() -> bool:
        state = client.http.get("/v1/cache").json()
        assert {"l2", "l3"} <= set(state["tiers"])
        return state["set_aside"] == {} and bool(state["index"])

    assert eventually(is_well), client.http.get("/v1/cache").text
