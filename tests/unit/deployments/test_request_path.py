"""How many async generators a request goes through: each is a frame to close and to cancel."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import numpy as np
import pytest

from deployments.config.settings import Limits, load_settings
from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.reply import SpeechReply
from deployments.speech.library import SpeechLibrary
from deployments.stages.clients import RemoteLM, RemoteVocoder
from deployments.telemetry.transfers import stamped
from pipeline.chain import SpeechChain
from pipeline.contracts import Mode, SpeechChunk, SpeechRequest, TokenChunk
from tests.conftest import ROOT
from tests.fakes import (
    FakeDecoder,
    FakeHandle,
    FakeNames,
    FakePrompts,
    FakeVoices,
    voice_prompt,
)
from tests.unit.deployments.http.test_reply import Metrics
from tests.unit.deployments.stages.remote import Uncounted

pytestmark = pytest.mark.unit

REQUEST = SpeechRequest("One.Two.", "Hi.")
MOST_IN_ROUTER = 4
OURS = tuple(str(ROOT / package) for package in ("pipeline", "deployments"))


@contextmanager
def generators() -> Iterator[list[str]]:
    """The async generators of our packages that begin meanwhile."""
    before, begun = sys.get_asyncgen_hooks(), list[str]()

    def begins(generator: Any) -> None:
        if generator.ag_code.co_filename.startswith(OURS):
            begun.append(generator.ag_code.co_qualname)
        before.firstiter(generator)

    sys.set_asyncgen_hooks(begins, before.finalizer)
    try:
        yield begun
    finally:
        sys.set_asyncgen_hooks(*before)


class Replica:
    """Two chunks of whatever is asked of it."""

    async def speak_aloud(self, *_: object) -> AsyncGenerator[object]:
        for last in (False, True):
            yield stamped(SpeechChunk(np.ones(2400, np.float32), last))

    async def stream_aloud(self, *_: object) -> AsyncGenerator[object]:
        for last in (False, True):
            yield stamped(TokenChunk(np.array([0, 0, 1024, 1024, 1024], np.int32), last))


@pytest.mark.parametrize("is_sse", [False, True], ids=["plain", "events"])
async def test_the_router_has_four(is_sse: bool) -> None:
    parsed = ParsedRequest(None, "ref_audio", "aria", REQUEST, "pcm", is_sse)
    handle: Any = FakeHandle(Replica())
    synthesizer = RemoteVocoder(handle, Limits(), Uncounted())  # type: ignore[arg-type]
    parts: Any = (FakeVoices(), synthesizer, Metrics(), "id")
    with generators() as begun:
        reply: Any = await SpeechReply(parsed, *parts).start()
        async with aclosing(reply.body_iterator) as body:
            assert len([piece async for piece in body]) == 2 + is_sse
    assert sorted(begun) == [
        "RemoteVocoder.speak",
        "SpeechReply._payload",
        "SpeechReply._pieces",
        "synthesize",
    ]


@pytest.mark.parametrize("is_whole", [False, True], ids=["as made", "whole"])
async def test_a_sessions_sentence_has_no_more(is_whole: bool) -> None:
    parsed = ParsedRequest(
        None, "ref_audio", "aria", REQUEST, "pcm", is_sse=False, is_whole=is_whole
    )
    handle: Any = FakeHandle(Replica())
    synthesizer = RemoteVocoder(handle, Limits(), Uncounted())  # type: ignore[arg-type]
    parts: Any = (FakeVoices(), synthesizer, Metrics(), "id")
    with generators() as begun:
        async with aclosing(SpeechReply(parsed, *parts).frames()) as frames:
            pieces = [piece async for piece in frames]
    assert len(pieces) == (1 if is_whole else 2)
    assert len(b"".join(pieces)) == 2 * 2 * 2400
    assert len(begun) == MOST_IN_ROUTER


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [None, "off"])
async def test_reusing_speech_adds_none(reuse: Any) -> None:
    settings = load_settings({"cache": {"url": "none", "l2": "off"}})
    handle: Any = FakeHandle(Replica())
    synthesizer = RemoteVocoder(handle, Limits(), Uncounted())  # type: ignore[arg-type]
    library = SpeechLibrary(settings, synthesizer, FakeNames())
    parsed = ParsedRequest(None, "ref_audio", "aria", REQUEST, "pcm", is_sse=False)
    reusing = library.request(FakeVoices(), reuse)
    parts: Any = (reusing, reusing, Metrics(), "id")
    with generators() as begun:
        reply: Any = await SpeechReply(parsed, *parts).start()
        async with aclosing(reply.body_iterator) as body:
            assert b"".join([piece async for piece in body])
    await library.close()
    assert sorted(begun) == [
        "RemoteVocoder.speak",
        "SpeechReply._payload",
        "SpeechReply._pieces",
        "synthesize",
    ]


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
