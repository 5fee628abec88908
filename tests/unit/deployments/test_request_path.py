"""How many async generators a request goes through: each is a frame to close and to cancel."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import numpy as np
import pytest

from deployments.admission.memory import RememberedRefusals
from deployments.config.settings import Limits
from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.reply import SpeechReply
from deployments.stages.clients import RemoteLM, RemoteVocoder
from deployments.telemetry.transfers import stamped
from pipeline.chain import SpeechChain
from pipeline.contracts import Mode, SpeechChunk, SpeechRequest, TokenChunk
from tests.async_generators import generators
from tests.fakes import (
    FakeDecoder,
    FakeHandle,
    FakePrompts,
    FakeVoices,
    voice_prompt,
)
from tests.http_app import http_app
from tests.unit.deployments.http.test_reply import Metrics
from tests.unit.deployments.stages.remote import Uncounted

pytestmark = pytest.mark.unit

REQUEST = SpeechRequest("One.Two.", "Hi.")
MOST_IN_ROUTER = 4


class Replica:
    """Two chunks of whatever is asked of it."""

    async def speak_aloud(self, *_: object) -> AsyncGenerator[object]:
        for last in (False, True):
            yield stamped(SpeechChunk(np.ones(2400, np.float32), last))

    async def stream_aloud(self, *_: object) -> AsyncGenerator[object]:
        for last in (False, True):
            yield stamped(TokenChunk(np.array([0, 0, 1024, 1024, 1024], np.int32), last))


def remembering(handle: Any, app_limits: Limits) -> RememberedRefusals:
    """The vocoder as a router asks it."""
    remote = RemoteVocoder(handle, app_limits, Uncounted())  # type: ignore[arg-type]
    return RememberedRefusals(remote, lambda *_: None)


SENTENCES = " ".join(f"Keeper {n} climbed the stair and lit the lamp." for n in range(4))
TURNS = [{"text": "Hello.", "voice_id": "aria"}, {"text": "Goodbye.", "voice_id": "bruno"}]
EDIT = {"voice": "aria", "type": "emotion", "value": "happy"}
DOORS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "plain": ("/v1/audio/speech", {"input": "Hello."}, []),
    "kept by nobody": ("/v1/audio/speech", {"input": "Hello.", "cache": "off"}, []),
    "events": ("/v1/audio/speech", {"input": "Hello.", "stream_format": "sse"}, []),
    "long text": ("/v1/audio/speech", {"input": SENTENCES}, ["LongSpeech.speak"]),
    "one loudness": (
        "/v1/audio/speech",
        {"input": SENTENCES, "target_lufs": -20},
        ["LongSpeech.speak"],
    ),
    "dialogue": ("/v1/text-to-dialogue/stream", {"inputs": TURNS}, ["Dialogue.speak"]),
    "edit": ("/v1/audio/edits", EDIT, ["Performance.speak"]),
}


@pytest.mark.parametrize("door", DOORS)
async def test_the_router_has_four_at_most(door: str) -> None:
    """From its door to the vocoder's handle; of the vocoder's, one for each answer."""
    path, body, between = DOORS[door]
    handle: Any = FakeHandle(Replica())
    async with http_app(limits={"max_text_chars": len(SENTENCES) - 1}) as app:
        app.speech._synthesizer = remembering(handle, app.settings.limits)
        with generators() as begun:
            reply = await app.http.post(path, json={"seed": 7, **body})
    assert reply.status_code == httpx.codes.OK, reply.text
    assert len(reply.content) > 1_000
    n_answers = len(handle.calls)
    assert n_answers == (2 if between and door != "edit" else 1)
    kinds = ["SpeechReply._payload", "synthesize", *between]
    assert sorted(begun) == sorted([*kinds, *["RemoteVocoder.speak"] * n_answers])
    assert len(set(begun)) <= MOST_IN_ROUTER


@pytest.mark.parametrize("is_whole", [False, True], ids=["as made", "whole"])
async def test_a_sessions_sentence_has_no_more(is_whole: bool) -> None:
    parsed = ParsedRequest(
        None, "ref_audio", "aria", REQUEST, "pcm", is_sse=False, is_whole=is_whole
    )
    handle: Any = FakeHandle(Replica())
    parts: Any = (FakeVoices(), remembering(handle, Limits()), Metrics(), "id")
    with generators() as begun:
        async with aclosing(SpeechReply(parsed, *parts).frames()) as frames:
            pieces = [piece async for piece in frames]
    assert len(pieces) == (1 if is_whole else 2)
    assert len(b"".join(pieces)) == 2 * 2 * 2400
    assert begun == ["SpeechReply._payload", "synthesize", "RemoteVocoder.speak"]


@pytest.mark.parametrize("mode", [Mode.CLONE, Mode.EMOTION])
async def test_the_vocoder_has_one_beside_the_replicas_own_and_its_decoders(mode: Mode) -> None:
    request = SpeechRequest("One.Two.", "Hi.", mode=mode, info="sad", iterations=2)
    handle: Any = FakeHandle(Replica())
    lm = RemoteLM(handle, Limits(), Uncounted())  # type: ignore[arg-type]
    with generators() as begun:
        synthesizer = SpeechChain(FakePrompts(), lm, FakeDecoder())
        async with aclosing(synthesizer.speak(request, voice_prompt())) as speech:
            assert [chunk.last async for chunk in speech] == [False, False, False, True]
    assert begun == ["SpeechChain.speak"]
    assert handle.cancelled == 2 + (mode is Mode.EMOTION)
