"""Speech over HTTP on a real cluster: formats, headers, determinism, OpenAI's client."""

from __future__ import annotations

import base64
import json
import threading

import httpx
import numpy as np
import openai
import pytest

from pipeline.audio.decode import decode_clip
from tests.audio_files import wav
from tests.serve.service_client import (
    TEXT,
    TIMEOUT_S,
    ServiceClient,
    body,
    cloned,
    decoded,
    listed_clip,
)
from tests.waiting import eventually

pytestmark = pytest.mark.serve
MEDIA_TYPES = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
}


@pytest.mark.parametrize("audio_format", list(MEDIA_TYPES))
def test_every_format_holds_the_same_speech(client: ServiceClient, audio_format: str):
    pcm = np.frombuffer(client.speak(response_format="pcm").content, "<i2") / 32768
    reply = client.speak(response_format=audio_format)
    assert reply.status_code == httpx.codes.OK
    assert reply.headers["content-type"].split(";")[0] == MEDIA_TYPES[audio_format]
    if audio_format == "pcm":
        samples, rate_hz = np.frombuffer(reply.content, "<i2") / 32768, 24_000
    else:
        samples, rate_hz = decoded(reply.content)
    assert len(samples) / rate_hz == pytest.approx(len(pcm) / 24_000, abs=0.12)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(np.sqrt(np.mean(pcm**2)), rel=0.2)
    assert len(pcm) % 2880 == 0, "whole groups of 120 ms"


def test_mp3_is_the_default(client: ServiceClient):
    assert client.speak().headers["content-type"] == "audio/mpeg"


def test_audio_arrives_in_chunks_as_it_is_made(client: ServiceClient):
    with client.stream(input=TEXT * 4, response_format="pcm") as reply:
        assert reply.headers.get("transfer-encoding") == "chunked"
        sizes = [len(piece) for piece in reply.iter_raw()]
    assert len(sizes) > 1


def test_the_same_request_and_seed_give_the_same_bytes(client: ServiceClient):
    first, again = client.speak(seed=11), client.speak(seed=11)
    other = client.speak(seed=12)
    assert first.content == again.content
    assert first.content != other.content


def test_interleaved_streams_equal_serial_ones(client: ServiceClient):
    requests = [body(seed=seed, input=f"{TEXT} {seed}", response_format="pcm") for seed in range(4)]
    serial = [client.http.post("/v1/audio/speech", json=r).content for r in requests]
    parallel: dict[int, bytes] = {}

    def run(index: int) -> None:
        with httpx.Client(base_url=client.service.url, timeout=TIMEOUT_S) as http:
            parallel[index] = http.post("/v1/audio/speech", json=requests[index]).content

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [parallel[i] for i in range(len(requests))] == serial


def test_a_clip_may_come_as_base64_data_uri_or_file(client: ServiceClient):
    clip, transcript = listed_clip()
    encoded = base64.b64encode(clip).decode()
    as_object = client.http.post("/v1/audio/speech", json=cloned(clip, transcript))
    as_uri = client.speak(ref_audio=f"data:audio/wav;base64,{encoded}", ref_text=transcript)
    payload = json.dumps(body(step_audio={"prompt_text": transcript}))
    as_file = client.http.post(
        "/v1/audio/speech/upload",
        data={"payload": payload},
        files={"prompt_audio_file": ("clip.wav", clip, "audio/wav")},
    )
    named = client.speak()
    assert as_object.status_code == httpx.codes.OK, as_object.text[:300]
    assert as_object.content == as_uri.content == as_file.content == named.content


def test_server_sent_events_carry_the_audio_and_the_stage_times(client: ServiceClient):
    plain = client.speak(response_format="pcm").content
    reply = client.speak(response_format="pcm", stream_format="sse")
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
    audio = b"".join(base64.b64decode(e["audio"]) for e in events[:-1])
    assert audio == plain
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["timbre"]["audio_s"] == pytest.approx(len(plain) / 2 / 24_000)


def test_speed_changes_the_duration_and_not_the_pitch_of_time(client: ServiceClient):
    normal = client.speak(response_format="pcm").content
    fast = client.speak(response_format="pcm", speed=2.0).content
    assert len(fast) == pytest.approx(len(normal) / 2, rel=0.03)


def test_every_reply_has_the_headers(client: ServiceClient):
    replies = [
        client.speak(),
        client.http.get("/v1/models"),
        client.http.get("/v1/voices"),
        client.http.get("/healthz"),
        client.http.get("/readyz"),
        client.speak(input=""),
        client.http.get("/v1/nothing"),
    ]
    for reply in replies:
        for header in ("server-timing", "x-cache", "x-request-id"):
            assert len(reply.headers.get_list(header)) == 1, (reply.url, header)
    assert "tokenizer;dur=" in replies[0].headers["server-timing"]
    assert replies[0].headers["x-cache"] in {"l1", "l3", "miss"}


def test_a_bad_but_usable_clip_is_named_on_misses_and_hits(client: ServiceClient):
    clip, transcript = listed_clip()
    known = decode_clip(clip)
    quiet = wav(known.samples[np.newaxis] * 0.02, known.sample_rate_hz)
    replies = [client.http.post("/v1/audio/speech", json=cloned(quiet, transcript)) for _ in "12"]
    assert [reply.headers["x-cache"] for reply in replies] == ["miss", "l1"]
    assert [reply.headers["x-audio-warning"] for reply in replies] == ["quiet", "quiet"]
    peaks = [np.abs(decoded(reply.content)[0]).max() for reply in (*replies, client.speak())]
    assert min(peaks) > 0.4 * max(peaks)
    assert "x-audio-warning" not in client.speak().headers


def test_a_callers_request_id_is_kept_and_logged(client: ServiceClient):
    reply = client.http.post(
        "/v1/audio/speech", json=body(), headers={"X-Request-Id": "caller-4711"}
    )
    assert reply.headers["x-request-id"] == "caller-4711"
    assert eventually(lambda: "speech caller-4711 ok" in client.log())
    line = next(line for line in client.log().splitlines() if "speech caller-4711 ok" in line)
    for name in ("tokenizer=", "llm=", "ttfa=", "vocoder=", "total=", "audio=", "rtf="):
        assert name in line


def test_openais_client_works_unchanged(client: ServiceClient):
    openai_client = openai.OpenAI(
        base_url=f"{client.service.url}/v1", api_key="unused", max_retries=0
    )
    whole = openai_client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
    samples, rate_hz = decoded(whole.content)
    assert rate_hz == 24_000
    assert len(samples) > rate_hz // 10
    with openai_client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input=TEXT, response_format="wav"
    ) as streamed:
        pieces = list(streamed.iter_bytes(4096))
    assert decoded(b"".join(pieces))[0].size > 0
    assert "tts-1" in [model.id for model in openai_client.models.list()]


def test_openais_client_sees_its_own_errors(client: ServiceClient):
    openai_client = openai.OpenAI(
        base_url=f"{client.service.url}/v1", api_key="unused", max_retries=0
    )
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.audio.speech.create(model="tts-1", voice="nobody", input=TEXT)
    error = caught.value.body
    assert isinstance(error, dict)
    assert set(error) == {"message", "type", "param", "code"}
    assert "aria" in error["message"]


def test_openais_client_clones_with_an_extra_body(client: ServiceClient):
    clip, transcript = listed_clip("bruno")
    openai_client = openai.OpenAI(
        base_url=f"{client.service.url}/v1", api_key="unused", max_retries=0
    )
    extra = {"step_audio": cloned(clip, transcript)["step_audio"], "seed": 3}
    reply = openai_client.audio.speech.create(
        model="tts-1", voice="alloy", input=TEXT, extra_body=extra
    )
    assert decoded(reply.content)[0].size > 0


def test_voices_and_models_are_listed(client: ServiceClient):
    voices = client.http.get("/v1/voices").json()
    assert {"aria", "bruno"} <= {voice["name"] for voice in voices["voices"]}
    assert client.http.get("/v1/models").json()["data"][0]["id"] == "tiny"


def test_the_docs_load_without_internet(client: ServiceClient):
    page = client.http.get("/docs").text
    assert "swagger" in page
    assert "cdn." not in page
    spec = client.http.get("/openapi.json").json()
    assert "/v1/audio/speech" in spec["paths"]
