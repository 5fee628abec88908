"""Bodies of vLLM-Omni's and SGLang-Omni's clients, and how their replies are framed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pipeline.audio.encode import wav_header
from tests.fakes import SAMPLES_PER_GROUP
from tests.http_app import CLIP, SAID, HttpApp, error_of

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]
ENCODED = base64.b64encode(CLIP).decode()
CLONED = {"task_type": "Base", "ref_audio": ENCODED, "ref_text": SAID}
SPOKEN_SAMPLES = 2 * SAMPLES_PER_GROUP

RECORDED = [
    # vLLM-Omni's Qwen3-TTS client
    {"model": "tts-1", "task_type": "CustomVoice", "voice": "bruno", "language": "English",
     "instructions": "", "max_new_tokens": 2048, "initial_codec_chunk_frames": 4},
    {**CLONED, "language": "Auto", "x_vector_only_mode": False, "word_timestamps": False},
    {"task_type": "Base", "references": [{"audio_path": ENCODED, "text": SAID}]},
    # SGLang-Omni's
    {"references": [{"audio": ENCODED, "text": SAID, "vq_codes": None}], "temperature": 0.8,
     "top_p": 0.8, "top_k": 30, "repetition_penalty": 1.0, "seed": 3, "stage_params": {}},
    {"references": [{"data": ENCODED, "media_type": "audio/wav", "text": SAID}]},
    {"ref_audio": f"data:audio/wav;base64,{ENCODED}", "ref_text": SAID, "stream": False},
]  # fmt: skip


@pytest.mark.parametrize("body", RECORDED, ids=range(len(RECORDED)))
async def test_their_bodies_are_spoken(app: HttpApp, body: dict[str, Any]):
    made = await app.spoken(**{"seed": None, **body})
    assert made.transcript == SAID


NOT_SERVED = [
    ("task_type", "VoiceDesign", "listed voice"),
    ("ref_audio_2", ENCODED, "one clip"),
    ("ref_audio_codes", [[1]], "clip itself"),
    ("ambient_sound", "rain", "speaks"),
    ("duration_seconds", 3.5, "speed"),
    ("duration_tokens", 80, "speed"),
    ("token_count", "80", "speed"),
    ("speaker_embedding", [0.1, 0.2], "clip"),
    ("x_vector_only_mode", True, "ref_text"),
    ("word_timestamps", True, "aligner"),
    ("repetition_penalty", 1.1, "send 1"),
    ("stage_params", {"llm": {"temperature": 1}}, "temperature"),
]


@pytest.mark.parametrize(("field", "value", "instead"), NOT_SERVED, ids=[r[0] for r in NOT_SERVED])
async def test_what_would_change_the_sound_and_cannot_be_is_refused_by_name(
    app: HttpApp, field: str, value: Any, instead: str
):
    reply = await app.speak(**{field: value})
    assert (reply.status_code, error_of(reply)["param"]) == (400, field)
    assert instead in error_of(reply)["message"]


@pytest.mark.slow
@pytest.mark.parametrize("nothing", [None, "", False, 0, [], {}, "false"])
@pytest.mark.parametrize("field", [row[0] for row in NOT_SERVED[1:]])
async def test_nothing_of_it_is_no_mistake(app: HttpApp, field: str, nothing: Any):
    assert await app.spoken(**{field: nothing})


@pytest.mark.parametrize("voice", ["default", "Default", {"id": "default"}])
async def test_the_default_voice_has_a_name(app: HttpApp, voice: Any):
    assert await app.speaker(voice=voice) == await app.speaker()


async def test_a_listed_voice_and_a_clip_contradict(app: HttpApp):
    reply = await app.speak(task_type="CustomVoice", ref_audio=ENCODED, ref_text=SAID)
    assert (reply.status_code, error_of(reply)["param"]) == (400, "ref_audio")


class TestExtraParams:
    async def test_reach_the_sampler(self, app: HttpApp):
        extra = {"temperature": 0.2, "top_p": 0.9, "top_k": 7, "max_new_tokens": 50, "seed": 5}
        made = (await app.spoken(extra_params=extra, seed=None)).sampling
        assert (made.temperature, made.top_p, made.top_k) == (0.2, 0.9, 7)
        assert (made.max_tokens, made.seed) == (50, 5)

    async def test_the_top_level_wins(self, app: HttpApp):
        made = await app.spoken(temperature=0.5, extra_params='{"temperature": 0.2}')
        assert made.sampling.temperature == 0.5

    @pytest.mark.parametrize(
        ("extra", "param"),
        [
            ({"cfg_scale": 2}, "extra_params.cfg_scale"),
            ({"temperature": 9}, "extra_params.temperature"),
            ({"repetition_penalty": 1.3}, "extra_params.repetition_penalty"),
            ("hot", "extra_params"),
        ],
    )
    async def test_others_are_refused_by_name(self, app: HttpApp, extra: Any, param: str):
        reply = await app.speak(extra_params=extra)
        assert (reply.status_code, error_of(reply)["param"]) == (400, param)


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


class TestFraming:
    @pytest.mark.parametrize(
        ("fields", "media_type"),
        [
            ({}, "audio/wav"),
            ({"stream": True}, "text/event-stream"),
            ({"stream": "true"}, "text/event-stream"),
            ({"stream": True, "stream_format": "audio"}, "audio/wav"),
            ({"stream_format": "audio"}, "audio/wav"),
            ({"stream": False, "stream_format": "sse"}, "text/event-stream"),
            ({"stream": True, "step_audio": {"mode": "clone"}}, "audio/wav"),
        ],
    )
    async def test_stream_means_events_unless_the_format_is_said(
        self, app: HttpApp, fields: dict[str, Any], media_type: str
    ):
        reply = await app.speak(**fields)
        assert reply.headers["content-type"].startswith(media_type)

    async def test_events_say_their_format_and_the_last_one_the_usage(self, app: HttpApp):
        *deltas, done = events_of((await app.speak(stream=True, response_format="pcm")).text)
        assert {event["response_format"] for event in deltas} == {"pcm"}
        assert set(done["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}

    @pytest.mark.parametrize("rate_hz", [None, 8_000, 16_000, 48_000])
    async def test_a_wav_that_is_not_streamed_has_its_length(
        self, app: HttpApp, rate_hz: int | None
    ):
        whole = await app.speak(stream=False, sample_rate=rate_hz)
        streamed = await app.speak(sample_rate=rate_hz)
        n_samples = SPOKEN_SAMPLES * (rate_hz or 24_000) // 24_000
        assert whole.content[:44] == wav_header(rate_hz or 24_000, n_samples=n_samples)
        assert whole.content[44:] == streamed.content[44:]
        assert int(whole.headers["content-length"]) == len(whole.content)
        assert "content-length" not in streamed.headers
        assert "x-vllm-omni-output-tokens" in whole.headers

    @pytest.mark.parametrize("audio_format", ["mp3", "opus", "aac", "flac", "pcm", "pcmu", "pcma"])
    async def test_other_formats_have_the_same_bytes_whole_and_streamed(
        self, app: HttpApp, audio_format: str
    ):
        fields = {"response_format": audio_format, "sample_rate": 16_000}
        whole = await app.speak(**fields, stream=False)
        assert whole.content == (await app.speak(**fields)).content
        assert int(whole.headers["content-length"]) == len(whole.content)


class TestRates:
    @pytest.mark.parametrize(
        ("fields", "rate"),
        [
            ({}, "24000"),
            ({"sample_rate": 8_000}, "8000"),
            ({"sample_rate": "44100", "response_format": "mp3"}, "44100"),
            ({"response_format": "pcmu"}, "8000"),
            ({"response_format": "PCMA", "sample_rate": 16_000}, "16000"),
        ],
    )
    async def test_headers_tell_them(self, app: HttpApp, fields: dict[str, Any], rate: str):
        reply = await app.speak(**fields)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-audio-sample-rate"] == rate
        assert reply.headers["x-audio-channels"] == "1"

    @pytest.mark.parametrize(
        ("rate", "audio_format", "said"),
        [
            (7_999, "wav", "8000 to 48000"), (96_000, "pcm", "8000 to 48000"),
            (-1, "pcm", "8000"), (44_100, "opus", "48000"), (20_000, "mp3", "22050"),
            (10**40, "wav", "8000"), ("fast", "wav", "integer"), (16_000.5, "wav", "integer"),
        ],
    )  # fmt: skip
    async def test_others_are_refused_with_what_there_is(
        self, app: HttpApp, rate: Any, audio_format: str, said: str
    ):
        reply = await app.speak(sample_rate=rate, response_format=audio_format)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "sample_rate")
        assert said in error_of(reply)["message"]
        assert len(error_of(reply)["message"]) < 300


async def test_instructions_are_taken_and_said_to_have_no_effect(app: HttpApp):
    reply = await app.speak(instructions="Speak like a pirate.")
    assert reply.headers["x-ignored-fields"] == "instructions"
    assert "x-ignored-fields" not in (await app.speak()).headers
