"""Bad input over HTTP.

A clear 4xx with what was wrong and what is allowed, and the next request works.
"""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.serve.service_client import ServiceClient, cloned, listed_clip

pytestmark = pytest.mark.serve


def wav(seconds: float, rate_hz: int = 16_000, level: float = 0.3) -> bytes:
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    samples = (np.sin(2 * np.pi * 220 * t) * level * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate_hz, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _the_next_request_works(client: ServiceClient) -> Iterator[None]:
    yield
    assert client.speak().status_code == httpx.codes.OK


CLIPS = [
    (wav(0.3), 422, "clip_duration", "0.5"),
    (wav(31.0), 422, "clip_duration", "30"),
    (wav(2.0, level=0.0), 422, "silent_audio", "sil"),
    (wav(2.0, rate_hz=4_000), 422, "sample_rate", "8000"),
    (b"RIFF but not really", 415, "undecodable_audio", "no wav"),
    (b"RIFF\x24\0\0\0WAVEfmt ", 415, "undecodable_audio", "damaged wav"),
    (b"", 415, "undecodable_audio", "empty"),
    (wav(2.0)[:60], 422, "clip_duration", "0.5"),
]


@pytest.mark.parametrize(
    ("clip", "status", "code", "said"), CLIPS, ids=[c[2] + str(i) for i, c in enumerate(CLIPS)]
)
def test_clips_that_cannot_be_used(client: ServiceClient, clip, status, code, said):
    reply = client.http.post("/v1/audio/speech", json=cloned(clip, "something"))
    error = reply.json()["error"]
    assert 400 <= reply.status_code < 500
    assert (reply.status_code, error["code"]) == (status, code)
    assert error["param"] == "step_audio.prompt_audio_base64"
    assert said in error["message"].lower()


BODIES = [
    ({"input": ""}, 422, "empty"),
    ({"input": "x" * 100_001}, 422, "100000"),
    ({"voice": "nobody"}, 404, "aria"),
    ({"step_audio": {"prompt_txt": "x"}}, 400, "prompt_text"),
    ({"ref_audio": base64.b64encode(wav(1.0)).decode()}, 400, "transcript"),
]
# What a router tells before it looks for anything: tests/unit/deployments/http/bodies has it, too.
UNREADABLE = [
    ({"step_audio": {"mode": "sing"}}, 400, "clone"),
    (
        {"voice": None, "step_audio": {"mode": "emotion", "edit_info": "happy"}},
        400,
        "edits a clip",
    ),
    ({"response_format": "midi"}, 400, "mp3"),
    ({"speed": 9}, 400, "4"),
    ({"model": "gpt-9"}, 400, "tts-1"),
    ({"ref_audio": "not base64!", "ref_text": "x"}, 400, "base64"),
    ({"ref_audio": "http://127.0.0.1/clip.wav", "ref_text": "x"}, 400, "not fetched"),
    ({"seed": -2}, 400, "seed"),
    ({"temperature": "hot"}, 400, "temperature"),
]


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [*BODIES, *(pytest.param(*row, marks=pytest.mark.exhaustive) for row in UNREADABLE)],
    ids=[f"{next(iter(b[0]))}{i}" for i, b in enumerate([*BODIES, *UNREADABLE])],
)
def test_bodies_that_cannot_be_served(client: ServiceClient, fields, status, said):
    reply = client.speak(**fields)
    assert reply.status_code == status, reply.text[:300]
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]


def test_a_body_over_the_limit_is_refused_declared_or_not(client: ServiceClient):
    huge = b'{"input":"' + b"x" * (26 * 2**20) + b'"}'
    headers = {"content-type": "application/json"}
    declared = client.http.post("/v1/audio/speech", content=huge, headers=headers)
    pieces = (huge[i : i + 2**20] for i in range(0, len(huge), 2**20))
    chunked = client.http.post("/v1/audio/speech", content=pieces, headers=headers)
    for reply in (declared, chunked):
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "too_large"
        assert reply.json()["error"]["param"] == "body"


def test_errors_about_a_clip_name_the_field_it_came_in(client: ServiceClient):
    """The same unusable clip, whose failure is remembered, through every field and route."""
    clip, said = b"RIFF but not really", {"ref_text": "something"}
    encoded = base64.b64encode(clip).decode()
    json_bodies = {
        "ref_audio": {"ref_audio": encoded, **said},
        "references": {"references": [{"audio": encoded, "text": "something"}]},
        "step_audio.input_audio_base64": {"step_audio": {"input_audio_base64": encoded}, **said},
    }
    replies = [(param, client.speak(**fields)) for param, fields in json_bodies.items()]
    payload = {"payload": json.dumps({"input": "x", **said})}
    for part in ("prompt_audio_file", "input_audio_file"):
        files = {part: ("clip.wav", clip)}
        replies.append(
            (part, client.http.post("/v1/audio/speech/upload", data=payload, files=files))
        )
    replies.append(("audio", client.http.post("/v1/cache/warm", json={"audio": encoded})))
    replies.append(("body", client.http.post("/v1/cache/warm", content=clip)))
    for param, reply in replies:
        assert reply.status_code == 415, param
        assert reply.json()["error"]["param"] == param
    both = client.speak(ref_audio=encoded, step_audio={"prompt_audio_base64": encoded})
    assert both.status_code == 400
    assert both.json()["error"]["param"] == "ref_audio"


def test_json_that_is_not_json(client: ServiceClient):
    headers = {"content-type": "application/json"}
    reply = client.http.post("/v1/audio/speech", content=b"{", headers=headers)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "body"
    assert "not valid JSON" in reply.json()["error"]["message"]


def test_an_upload_without_a_file_says_which_part_is_missing(client: ServiceClient):
    reply = client.http.post("/v1/audio/speech/upload", data={"payload": "{}"})
    assert reply.status_code == 400
    assert "prompt_audio_file" in reply.json()["error"]["message"]


def test_an_unknown_route_and_method_answer_in_the_same_shape(client: ServiceClient):
    assert client.http.get("/v1/nothing").json()["error"]["code"] == "http_error"
    assert client.http.get("/v1/audio/speech").status_code == 405


def test_unknown_fields_at_the_top_are_ignored_as_clients_expect(client: ServiceClient):
    clip, transcript = listed_clip()
    reply = client.http.post("/v1/audio/speech", json={**cloned(clip, transcript), "user": "x"})
    assert reply.status_code == httpx.codes.OK


def test_an_edit_speaks_and_an_unknown_one_lists_what_exists(client: ServiceClient):
    clip, transcript = listed_clip()
    request = cloned(clip, transcript)
    request["step_audio"] |= {"mode": "emotion", "edit_info": "happy"}
    assert client.http.post("/v1/audio/speech", json=request).status_code == httpx.codes.OK
    request["step_audio"] |= {"edit_info": "purple"}
    refused = client.http.post("/v1/audio/speech", json=request)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "step_audio.edit_info"
    assert "happy" in refused.json()["error"]["message"]
