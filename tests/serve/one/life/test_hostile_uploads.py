"""Two hundred uploads made to break things, over HTTP: refused or spoken, and nothing is left."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.audio_files import libav, tone
from tests.hostile_files import hostile_cases
from tests.serve.service_client import ServiceClient, body, listed_clip
from tests.waiting import eventually

pytestmark = [
    pytest.mark.serve,
    pytest.mark.exhaustive,
]  # of tests/unit/pipeline/audio/test_hostile.py

N_UPLOADS = 200
N_DAMAGED = 50
AT_A_TIME = 4
WARM_UP = 24  # uploads after which what is filled once is filled
MORE_FDS = 16  # connections that the proxy and Ray may keep open
MORE_THREADS = 3 * AT_A_TIME  # of pools that grow to a bound: decoding, reading, writing
MORE_BYTES = 80 * 2**20  # of its own: pages of the object store have that one's budget


def uploads() -> list[bytes]:
    """Of the decoder's own cases, and files of every codec, most of them damaged in their heads."""
    made = [data for data, _ in hostile_cases().values()]
    random = np.random.default_rng(5)
    random.shuffle(made)
    del made[N_UPLOADS - N_DAMAGED :]
    codecs = [("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus"), ("ipod", "aac")]
    whole = [np.frombuffer(libav(tone(48_000, 1), 48_000, *codec), np.uint8) for codec in codecs]
    while len(made) < N_UPLOADS:
        data = whole[len(made) % len(whole)].copy()
        where = random.integers(0, random.choice([64, 400, len(data)]), 8)
        data[where] = random.integers(0, 256, 8)
        made.append(data.tobytes())
    random.shuffle(made)
    return made


def post(client: ServiceClient, data: bytes) -> httpx.Response:
    payload = json.dumps(
        body(
            response_format="pcm",
            max_new_tokens=5,
            voice=None,
            step_audio={"prompt_text": "What is said in the clip."},
        )
    )
    return client.http.post(
        "/v1/audio/speech/upload",
        data={"payload": payload},
        files={"prompt_audio_file": ("clip", data)},
    )


def test_two_hundred_hostile_uploads(client: ServiceClient) -> None:
    honest, _ = listed_clip()
    before = post(client, honest)
    assert before.status_code == httpx.codes.OK, before.text
    router = client.replica("Router")
    made = uploads()
    assert len(made) == N_UPLOADS
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        replies = list(pool.map(lambda d: post(client, d), made[:WARM_UP]))
        fds, threads, memory_bytes = (
            router.num_fds(),
            router.num_threads(),
            router.memory_full_info().uss,
        )
        replies += pool.map(lambda d: post(client, d), made[WARM_UP:])
    statuses = [reply.status_code for reply in replies]
    wrong = [reply.text[:200] for reply in replies if not 400 <= reply.status_code < 500]
    spoken = [reply for reply in replies if reply.status_code == httpx.codes.OK]
    assert len(wrong) == len(spoken), (sorted(set(statuses)), wrong)
    assert all(len(reply.content) % 2 == 0 and reply.content for reply in spoken)
    assert 0 < len(spoken) < len(replies) / 2, "some are sound, most must have been refused"
    for reply in replies:
        if reply.status_code != httpx.codes.OK:
            assert reply.json()["error"]["message"]
    assert client.replica("Router").pid == router.pid, "the router must have survived"
    assert eventually(lambda: router.num_fds() <= fds + MORE_FDS)
    assert router.num_threads() <= threads + MORE_THREADS
    assert router.memory_full_info().uss - memory_bytes < MORE_BYTES
    assert eventually(lambda: client.busy() == (0, 0))
    assert post(client, honest).content == before.content
