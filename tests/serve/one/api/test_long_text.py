"""A text in segments on the real service: its account, loudness, repeat and early end."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from pipeline.audio.levels import measure_levels
from pipeline.splitting.segments import segments
from tests.serve.service_client import ServiceClient
from tests.waiting import eventually

pytestmark = pytest.mark.serve

SENTENCE = "Number {} climbed the stair and lit the lamp before the storm came in from the sea."
PARAGRAPH = " ".join(SENTENCE.format(name) for name in ("one", "two", "three", "four", "five"))
LONG = "\n\n".join([PARAGRAPH] * 12)
FREED_WITHIN_S = 5.0  # far less than what is left to be spoken would take


def test_segments_are_told_add_up_and_repeat(client: ServiceClient):
    fields = {"input": PARAGRAPH, "target_lufs": -24, "response_format": "pcm", "seed": 16}
    lines = client.speak(**fields, stream_format="sse").text.split("\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    done = events.pop()
    parts = segments(PARAGRAPH)
    assert (done["segments"]["count"], done["segments"]["ended"]) == (len(parts), len(parts))
    reply = client.speak(**fields)
    assert b"".join(base64.b64decode(event["audio"]) for event in events) == reply.content
    report = client.http.get(f"/v1/audio/speech/{reply.headers['x-request-id']}").json()
    assert report["segments"] == done["segments"]
    assert report["usage"] == done["usage"]
    samples = np.frombuffer(reply.content, "<i2").astype(np.float32) / np.float32(32_768)
    assert report["timbre"]["audio_s"] == pytest.approx(len(samples) / 24_000)
    pauses_s = sum(round(part.pause_s * 24_000) / 24_000 for part in parts)
    spoken_s = report["usage"]["output_tokens"] / 5 * 0.12
    assert len(samples) / 24_000 == pytest.approx(spoken_s + pauses_s, abs=0.01)
    assert measure_levels(samples, 24_000).loudness_lufs() == pytest.approx(-24, abs=1)


def test_leaving_a_long_text_frees_every_stage(client: ServiceClient):
    assert len(LONG) > 4_096
    assert eventually(lambda: client.busy() == (0, 0))
    with client.stream(input=LONG, response_format="pcm", seed=17, cache="off") as reply:
        pieces = reply.iter_raw()
        heard = 0
        while heard < 20 * 48_000:  # into a later segment
            heard += len(next(pieces))
    assert eventually(lambda: client.busy() == (0, 0), FREED_WITHIN_S, every_s=0.02)
    request_id = reply.headers["x-request-id"]
    found = f"/v1/audio/speech/{request_id}"
    assert eventually(lambda: client.http.get(found).status_code == 200)
    report = client.http.get(found).json()
    assert report["outcome"] == "cancelled"
    assert 1 <= report["segments"]["ended"] < report["segments"]["count"] == len(segments(LONG))
