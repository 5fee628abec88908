"""The clients that users have, from the package index, unchanged, against the running service.

OpenAI's Python client is in test_speech; here are its other languages and the frameworks that wrap
it, and ElevenLabs' own.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

import elevenlabs
import httpx
import numpy as np
import openai
import pytest
from elevenlabs.core.api_error import ApiError

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ
from tests.documents.examples import OF_NPM, SHOWN_URL, require_speech
from tests.readme_blocks import blocks
from tests.serve.service_client import TEXT, TIMEOUT_S, ServiceClient, decoded, listed_clip
from tests.waiting import eventually

pytestmark = pytest.mark.serve
NODE = Path(__file__).parent / "node"
VOICES = {"aria", "bruno"}
LEAST_S = 0.3  # of TEXT, however it is said


def is_speech(pcm: bytes, rate_hz: int = OUTPUT_SAMPLE_RATE_HZ) -> bool:
    samples = np.frombuffer(pcm, "<i2")
    return len(samples) > LEAST_S * rate_hz and int(np.abs(samples).max()) > 1_000


class TestElevenLabs:
    @pytest.fixture
    def eleven(self, client: ServiceClient) -> Iterator[elevenlabs.ElevenLabs]:
        with httpx.Client(timeout=TIMEOUT_S) as http:
            yield elevenlabs.ElevenLabs(
                base_url=client.service.url, api_key="unused", httpx_client=http
            )

    def test_voices_and_models_are_listed(self, eleven: elevenlabs.ElevenLabs):
        assert {voice.voice_id for voice in eleven.voices.get_all().voices} >= VOICES
        found = eleven.voices.search(search="bruno")
        assert [voice.name for voice in found.voices] == ["bruno"]
        assert not found.has_more
        assert eleven.voices.get("bruno").labels == {"language": "en"}
        assert eleven.models.list()[0].model_id == "tiny"

    @pytest.mark.parametrize(
        ("output_format", "rate_hz"), [("mp3_44100_128", 44_100), ("mp3_22050_32", 22_050)]
    )
    def test_a_text_is_converted(
        self, eleven: elevenlabs.ElevenLabs, output_format: str, rate_hz: int
    ):
        audio = b"".join(
            eleven.text_to_speech.convert(
                voice_id="bruno",
                text=TEXT,
                model_id="eleven_multilingual_v2",
                output_format=output_format,
                voice_settings=elevenlabs.VoiceSettings(stability=0.5, speed=1.1),
                seed=7,
            )
        )
        samples, found_hz = decoded(audio)
        assert found_hz == rate_hz
        assert len(samples) > LEAST_S * rate_hz

    def test_a_stream_has_the_bytes_of_the_file(self, eleven: elevenlabs.ElevenLabs):
        asked = {"voice_id": "bruno", "text": TEXT, "output_format": "pcm_16000", "seed": 7}
        pieces = list(eleven.text_to_speech.stream(**asked))
        assert len(pieces) > 1
        assert b"".join(pieces) == b"".join(eleven.text_to_speech.convert(**asked))
        assert is_speech(b"".join(pieces), 16_000)

    def test_telephone_audio(self, eleven: elevenlabs.ElevenLabs):
        asked = {"voice_id": "bruno", "text": TEXT, "seed": 7}
        law = b"".join(eleven.text_to_speech.convert(**asked, output_format="ulaw_8000"))
        pcm = b"".join(eleven.text_to_speech.convert(**asked, output_format="pcm_8000"))
        assert 2 * len(law) == len(pcm)

    def test_a_voice_is_cloned_spoken_in_renamed_and_deleted(self, eleven: elevenlabs.ElevenLabs):
        clip, said = listed_clip("elena")
        labels = {"consent": "I agree that my voice is cloned.", "ref_text": said}
        made = eleven.voices.ivc.create(name="Zoe", files=[("v.wav", clip)], labels=labels)
        asked = {"voice_id": made.voice_id, "text": TEXT, "output_format": "pcm_24000"}
        assert is_speech(b"".join(eleven.text_to_speech.convert(**asked)))
        assert eleven.voices.update(made.voice_id, name="Zoe, calm").status == "ok"
        assert eleven.voices.get(made.voice_id).name == "Zoe, calm"
        assert eleven.voices.delete(made.voice_id).status == "ok"
        with pytest.raises(ApiError, match="404"):
            b"".join(eleven.text_to_speech.convert(**asked))

    def test_an_unknown_voice_is_its_own_error(self, eleven: elevenlabs.ElevenLabs):
        with pytest.raises(ApiError) as caught:
            b"".join(eleven.text_to_speech.convert(voice_id="nobody", text=TEXT))
        assert caught.value.status_code == 404
        assert caught.value.body["error"]["param"] == "voice_id"


class TestLiveKit:
    """Its plugin asks for events by default, and for plain audio of tts-1."""

    @pytest.mark.filterwarnings("default")  # of its own dependencies
    @pytest.mark.parametrize(
        ("model", "audio_format"),
        [
            ("gpt-4o-mini-tts", "mp3"),
            ("tts-1", "mp3"),
            ("tts-1", "wav"),
            ("gpt-4o-mini-tts", "pcm"),
        ],
    )
    async def test_speech(self, client: ServiceClient, model: str, audio_format: str):
        from livekit.plugins import openai as plugin

        tts = plugin.TTS(
            model=model,
            voice="ash",
            base_url=f"{client.service.url}/v1",
            api_key="unused",
            response_format=audio_format,
        )
        try:
            frame = await tts.synthesize(TEXT).collect()
        finally:
            await tts.aclose()
        assert frame.sample_rate == OUTPUT_SAMPLE_RATE_HZ
        assert is_speech(bytes(frame.data))

    @pytest.mark.filterwarnings("default")
    async def test_a_refusal_is_its_own_error(self, client: ServiceClient):
        from livekit.agents import APIConnectOptions, APIStatusError
        from livekit.plugins import openai as plugin

        tts = plugin.TTS(voice="nobody", base_url=f"{client.service.url}/v1", api_key="unused")
        once = APIConnectOptions(max_retry=0)
        try:
            with pytest.raises(APIStatusError) as caught:
                await tts.synthesize(TEXT, conn_options=once).collect()
        finally:
            await tts.aclose()
        assert caught.value.status_code == 404


class TestPipecat:
    """The calls of its OpenAITTSService: the package itself wants an older protobuf than ours."""

    async def test_speech(self, client: ServiceClient):
        talker = openai.AsyncOpenAI(api_key="unused", base_url=f"{client.service.url}/v1")
        asked = {
            "input": TEXT, "model": "gpt-4o-mini-tts", "voice": "alloy", "response_format": "pcm",
            "instructions": "Speak slowly.", "speed": 1.2,
        }  # fmt: skip
        pieces: list[bytes] = []
        async with talker, talker.audio.speech.with_streaming_response.create(**asked) as reply:
            assert reply.status_code == 200
            async for piece in reply.iter_bytes(OUTPUT_SAMPLE_RATE_HZ):
                pieces.append(piece)  # noqa: PERF401 - as it does
        assert is_speech(b"".join(pieces))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Node program with OpenAI's package beside it."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no Node on this machine")
    home = tmp_path_factory.mktemp("node")
    for name in ("package.json", "speak.mjs"):
        shutil.copy(NODE / name, home)
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install OpenAI's package: {done.stderr[-300:]}")
    return home


def test_openais_client_for_node(client: ServiceClient, node: Path):
    done = subprocess.run(
        ["node", "speak.mjs", f"{client.service.url}/v1"],
        cwd=node,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert "tts-1" in said["models"]
    assert said["type"] == "audio/wav"
    samples, rate_hz = decoded(base64.b64decode(said["whole"]))
    assert len(samples) > LEAST_S * rate_hz
    assert said["streamed"] > 2 * LEAST_S * OUTPUT_SAMPLE_RATE_HZ
    assert said["error"] == {
        "name": "NotFoundError",
        "status": 404,
        "param": "voice",
        "code": "unknown_voice",
    }


def test_the_example_for_openais_client_of_node(client: ServiceClient, node: Path):
    [example] = [one.text for one in blocks("docs/openai.md") if OF_NPM in one.text]
    (node / "example.mjs").write_text(example.replace(SHOWN_URL, client.service.url))
    done = subprocess.run(
        ["node", "example.mjs"], cwd=node, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    require_speech(node / "node.mp3")


def test_fish_and_omni_bodies(client: ServiceClient):
    clip, transcript = listed_clip()
    encoded = base64.b64encode(clip).decode()
    fish = {"text": TEXT, "references": [{"audio": encoded, "text": transcript}], "seed": 7}
    omni = {"input": TEXT, "task_type": "Base", "ref_audio": encoded, "ref_text": transcript}
    ours = client.speak(response_format="wav", stream=False)
    replies = [
        client.http.post("/v1/tts", json=fish),
        client.speak(**omni, voice=None, response_format="wav", stream=False),
    ]
    with wave.open(io.BytesIO(ours.content)) as file:  # a true length, or it would not read it
        assert file.getnframes() == (len(ours.content) - 44) // 2
    assert [reply.content == ours.content for reply in replies] == [True, True]


def test_any_router_tells_how_a_request_ended(client: ServiceClient):
    headers = {"x-request-id": "call-47"}
    body = {"input": TEXT, "voice": "aria", "response_format": "pcm"}
    reply = client.http.post("/v1/audio/speech", json=body, headers=headers)
    told = client.http.get("/v1/audio/speech/call-47")
    assert told.status_code == 200, told.text
    report = told.json()
    assert (report["finish_reason"], report["outcome"]) == ("stop", "ok")
    assert report["timbre"]["audio_s"] == pytest.approx(len(reply.content) / 2 / 24_000)
    assert report["usage"]["output_tokens"] == round(report["timbre"]["audio_s"] / 0.12) * 5
    assert report["usage"]["input_tokens"] > 0


def test_a_stream_that_its_reader_left_is_told_as_cancelled(client: ServiceClient):
    body = {"input": TEXT * 40, "voice": "aria", "response_format": "pcm"}
    headers = {"x-request-id": "left-48"}
    with client.http.stream("POST", "/v1/audio/speech", json=body, headers=headers) as reply:
        next(reply.iter_raw())
    assert eventually(lambda: client.http.get("/v1/audio/speech/left-48").status_code == 200)
    report = client.http.get("/v1/audio/speech/left-48").json()
    assert report["finish_reason"] == "cancelled"
