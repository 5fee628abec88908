"""The first piece of audio as the caller asks for it, over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serve.service_client import TEXT, TIMEOUT_S, ServiceClient, body

pytestmark = pytest.mark.serve


def post(client: ServiceClient, **fields: object) -> bytes:
    request = body(input=TEXT * 2, response_format="pcm", **fields)
    reply = httpx.post(f"{client.service.url}/v1/audio/speech", json=request, timeout=TIMEOUT_S)
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.content


def test_a_smaller_first_chunk_speaks_as_long_and_repeats_in_a_crowd(client: ServiceClient) -> None:
    usual = post(client)
    small = post(client, initial_codec_chunk_frames=6)
    assert len(small) == len(usual)
    assert small != usual, "other borders, other last bits"
    assert post(client, initial_codec_chunk_frames=0) == usual
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(post, client, seed=seed) for seed in (21, 22, 23)]
        crowded = pool.submit(post, client, initial_codec_chunk_frames=6)
        assert crowded.result() == small
        assert all(len(other.result()) for other in others)


def test_impossible_frames_are_refused(client: ServiceClient) -> None:
    reply = client.speak(initial_codec_chunk_frames=-1)
    assert reply.status_code == httpx.codes.BAD_REQUEST
    assert reply.json()["error"]["param"] == "initial_codec_chunk_frames"
