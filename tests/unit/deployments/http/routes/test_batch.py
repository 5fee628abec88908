"""vLLM-Omni's batch: items fail alone, fields are shared; and several voices in one reply."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import jsonschema
import pytest

from deployments.jobs import dialogue
from load_tests.conformance import strict
from pipeline.contracts import SpeechRequest, VoicePrompt
from pipeline.errors import CapacityError
from tests.fakes import SAMPLES_PER_GROUP
from tests.http_app import CLIP, HttpApp, error_of, http_app

pytestmark = pytest.mark.unit
BATCH = "/v1/audio/speech/batch"
TURNS = [{"text": "Did you hear that?", "voice": "aria"}, {"text": "No.", "voice": "bruno"}]
ANSWER = 2 * SAMPLES_PER_GROUP  # samples of a fake answer
PAUSE = 6_000
CLIP64 = base64.b64encode(CLIP).decode()


async def test_items_share_fields_and_fail_alone():
    async with http_app() as app:
        items = [
            {"input": "One."},
            {"input": " "},
            {"input": "Three.", "voice": "aria", "response_format": "pcm", "seed": 9},
            {"input": "Four.", "voice": "nobody"},
        ]
        reply = await app.http.post(BATCH, json={"items": items, "voice": "bruno", "speed": 1.0})
        assert reply.status_code == httpx.codes.OK, reply.text
        told = reply.json()
        schema = strict(app.app.openapi())["paths"][BATCH]["post"]["responses"]["200"]["content"]
        jsonschema.validate(told, schema["application/json"]["schema"])
        assert told["id"].startswith("speech-batch-")
        assert (told["total"], told["succeeded"], told["failed"]) == (4, 2, 2)
        one, two, three, four = told["results"]
        assert [one["index"], two["index"], three["index"], four["index"]] == [0, 1, 2, 3]
        assert base64.b64decode(one["audio_data"])[:4] == b"RIFF"
        assert one["media_type"] == "audio/wav"
        assert set(one["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
        assert set(two) == {"index", "status", "error"}
        assert "empty" in two["error"]
        assert three["media_type"] == "audio/pcm"
        assert len(base64.b64decode(three["audio_data"])) == 2 * ANSWER
        assert "nobody" in four["error"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": [{"input": "a"}] * 33}, "items"),
        ({"items": [7]}, "items.0"),
        ([], "body"),
    ],
)
async def test_a_batch_that_is_none_is_refused(body: Any, param: str):
    async with http_app() as app:
        reply = await app.http.post(BATCH, json=body)
        assert reply.status_code == httpx.codes.BAD_REQUEST
        assert error_of(reply)["param"] == param


def requests_of(app: HttpApp) -> list[SpeechRequest]:
    return app.synthesizer.requests


def spoken(app: HttpApp) -> list[str]:
    return [request.text for request in requests_of(app)]


@pytest.mark.parametrize("stream", [None, False])
async def test_several_voices_in_one_reply(stream: bool | None):
    async with http_app() as app:
        body = {"inputs": TURNS, "response_format": "pcm", "seed": 7, "stream": stream}
        reply = await app.http.post("/v1/audio/speech", json=body)
        assert reply.status_code == httpx.codes.OK, reply.text
        assert len(reply.content) == 2 * (2 * ANSWER + PAUSE)
        assert spoken(app) == ["Did you hear that?", "No."]
        first, second = app.synthesizer.requests
        assert first.sampling.seed == 7
        assert second.sampling.seed not in {7, 0}
        assert first.transcript != second.transcript


async def test_the_next_turn_waits_for_a_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dialogue, "WAIT_S", 0.01)
    async with http_app() as app:
        speak, at_work = app.synthesizer.speak, 0

        async def one_at_a_time(request: SpeechRequest, voice: VoicePrompt) -> Any:
            nonlocal at_work
            if at_work:
                raise CapacityError("all 1 slots are busy")
            at_work += 1
            try:
                async for chunk in speak(request, voice):
                    yield chunk
                    await asyncio.sleep(0.03)
            finally:
                at_work -= 1

        monkeypatch.setattr(app.synthesizer, "speak", one_at_a_time)
        body = {"inputs": [*TURNS, TURNS[0]], "response_format": "pcm", "seed": 7}
        reply = await app.http.post("/v1/audio/speech", json=body)
        assert reply.status_code == httpx.codes.OK, reply.text
        assert len(reply.content) == 2 * (3 * ANSWER + 2 * PAUSE)


async def test_as_elevenlabs_clients_ask_for_it():
    async with http_app() as app:
        turns = [{"text": turn["text"], "voice_id": turn["voice"]} for turn in TURNS]
        for path in ("/v1/text-to-dialogue", "/v1/text-to-dialogue/stream"):
            reply = await app.http.post(
                path, json={"inputs": turns, "seed": 3}, params={"output_format": "pcm_24000"}
            )
            assert reply.status_code == httpx.codes.OK, reply.text
            assert len(reply.content) == 2 * (2 * ANSWER + PAUSE)


@pytest.mark.parametrize(
    ("body", "param", "status"),
    [
        ({"inputs": [], "input": None}, "inputs", 400),
        ({"inputs": TURNS, "input": "too"}, "inputs", 400),
        ({"inputs": [TURNS[0], {"text": " "}]}, "inputs.1.text", 422),
        ({"inputs": [TURNS[0], {"text": "a", "voice": "nobody"}]}, "inputs.1.voice", 404),
        ({"inputs": [{"voice": "aria"}]}, "inputs.0.text", 400),
        ({"inputs": TURNS, "target_lufs": -20}, "inputs", 400),
        ({"inputs": TURNS, "ref_audio": CLIP64}, "inputs", 400),
        ({"inputs": TURNS, "ref_text": "What is said."}, "inputs", 400),
        ({"inputs": TURNS, "references": [{"audio": CLIP64, "text": "a"}]}, "inputs", 400),
        ({"inputs": TURNS, "step_audio": {"mode": "clone"}}, "inputs", 400),
    ],
)
async def test_a_dialogue_that_is_none_is_refused(body: Any, param: str, status: int):
    async with http_app() as app:
        reply = await app.http.post("/v1/audio/speech", json=body)
        assert (reply.status_code, error_of(reply)["param"]) == (status, param), reply.text
        stray = body.keys() - {"inputs"}
        if stray and param == "inputs" and body["inputs"]:
            assert error_of(reply)["message"].endswith(f"leave out {stray.pop()}")
        assert not app.synthesizer.requests


@pytest.mark.parametrize("part", ["ref_audio", "prompt_audio_file"])
async def test_a_dialogue_with_a_clip_beside_it_is_refused(part: str):
    async with http_app() as app:
        reply = await app.http.post(
            "/v1/audio/speech", data={"inputs": json.dumps(TURNS)}, files={part: ("a.wav", CLIP)}
        )
        error = error_of(reply)
        assert (reply.status_code, error["param"]) == (400, "inputs")
        assert error["message"].endswith("leave out a clip")


async def test_what_goes_with_several_voices_is_taken():
    async with http_app() as app:
        entry = {"written": "No", "said": "Never"}
        body = {"inputs": TURNS, "pronunciation": [entry], "references": [], "speed": 1.0}
        reply = await app.http.post("/v1/audio/speech", json={**body, "response_format": "pcm"})
        assert reply.status_code == httpx.codes.OK, reply.text
        read = [[rule.said for rule in one.reading.pronunciations] for one in requests_of(app)]
        assert read == [[], ["Never"]]
