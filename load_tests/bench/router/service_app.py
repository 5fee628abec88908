"""The service as it is shipped, with marks in it; and the same with stages that take no time.

Serve imports it where `deployments.app` stands in the shipped configs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any
from unittest import mock

import numpy as np
from fastapi import FastAPI
from ray.serve import Application
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments import app
from deployments.http.ingress import Router
from deployments.http.proxy import set_up_proxy
from deployments.http.reply_codec import ReplyCodec
from deployments.http.routes.speech import Routes
from deployments.liveness.signs import Alive
from deployments.speech.library import ReusingSpeech
from deployments.speech.on_the_way import sent_in_steps
from deployments.stages import clients
from deployments.stages.llm import LLMReplica
from deployments.stages.replies import Replies
from deployments.stages.tokenizer import TokenizerReplica
from deployments.stages.vocoder import VocoderReplica
from deployments.telemetry.transfers import Stamped, stamped
from load_tests.bench.router.marks import mark_calls, opened
from pipeline.contracts import (
    OUTPUT_SAMPLE_RATE_HZ,
    Drawn,
    ReferenceClip,
    SpeechChunk,
    SpeechRequest,
    VocoderName,
    VoicePrompt,
)

FAKE_CHUNKS_S = (0.72, 0.6, 0.84, 1.2, 1.92, 2.56)  # as the shipped schedule has them
FAKE_PACE_S = 0.01  # between them: the first one is on its way by then
FAKE_VOCODER, FAKE_LM, FAKE_ENCODER = "c" * 64, "d" * 64, "f" * 64


class MarkedRoute:
    """Pure ASGI middleware: marks a request that comes in, and every piece of a body that goes out.

    Only those that speak: a probe is nobody's request.
    """

    def __init__(self, app: ASGIApp, *, place: str) -> None:
        self._app, self._place = app, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        mark = opened()
        mark(f"{self._place}.in")

        async def sent(message: Message) -> None:
            if message.get("body"):
                mark(f"{self._place}.out")
            await send(message)

        await self._app(scope, receive, sent)


def set_up_marked_proxy() -> list[Middleware]:
    """Serve's proxy as it is shipped, with marks outside of it."""
    return [Middleware(MarkedRoute, place="proxy"), *set_up_proxy()]


def _who_replied(replies: Replies[Any]) -> str:
    return f"{replies._stage.lower()}.heard"


# Calls of the router's that are marked: the name of each mark, and whether it is the call's end.
MARKED: Mapping[tuple[type, str], tuple[Callable[[Any], str], bool]] = {
    (Routes, "reply_to"): (lambda _: "router.read", False),
    (ReusingSpeech, "resolve"): (lambda _: "router.voice", True),
    (clients.RemoteVocoder, "_once"): (lambda _: "router.asks", False),
    (Replies, "__anext__"): (_who_replied, True),
    (ReplyCodec, "encode"): (lambda _: "router.encoded", True),
}


class MarkedRouter(Router):
    """The router with marks along a request's way."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        for (owner, method), (name, is_end) in MARKED.items():
            mark_calls(owner, method, name, is_end=is_end)
        super().__init__(*args, **fields)

    def __serve_build_asgi_app__(self) -> FastAPI:
        made = super().__serve_build_asgi_app__()
        made.add_middleware(MarkedRoute, place="router")
        return made


class MarkedVocoder(VocoderReplica):
    """The vocoder with marks where a request enters and leaves it."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        mark_calls(Replies, "__anext__", _who_replied, is_end=True)
        super().__init__(*args, **fields)

    async def speak_aloud(
        self, request: SpeechRequest, sent: Stamped[VoicePrompt]
    ) -> AsyncGenerator[Stamped[SpeechChunk] | Alive]:
        mark = opened()
        mark("vocoder.in")
        async with aclosing(super().speak_aloud(request, sent)) as speech:
            async for chunk in speech:
                mark("vocoder.out")
                yield chunk


class MarkedLLM(LLMReplica):
    """The language model with marks where a prompt enters and tokens leave."""

    async def stream_aloud(self, *args: Any, **fields: Any) -> AsyncGenerator[Any]:
        mark = opened()
        mark("llm.in")
        async with aclosing(super().stream_aloud(*args, **fields)) as chunks:
            async for chunk in chunks:
                mark("llm.out")
                yield chunk


class FakeTokenizer:
    """Encodes any clip at once."""

    def __init__(self, *_: object) -> None:
        self._rng = np.random.default_rng(0)

    async def fingerprint(self) -> str:
        return FAKE_ENCODER

    async def encode_aloud(self, clip: ReferenceClip) -> AsyncGenerator[Stamped[VoicePrompt]]:
        n_groups = int(clip.duration_s / 0.12)
        voice = VoicePrompt(
            vq02=self._rng.integers(0, 1024, 2 * n_groups).astype(np.int16),
            vq06=self._rng.integers(0, 4096, 3 * n_groups).astype(np.int16),
            prompt_mel=np.zeros((int(clip.duration_s * 50), 80), np.float32),
            speaker_embedding=np.zeros(192, np.float32),
            duration_s=clip.duration_s,
            fingerprint=FAKE_ENCODER,
        )
        yield stamped(voice)

    async def status(self) -> dict[str, Any]:
        return {}


class FakeLLM:
    """Nobody asks it for tokens."""

    def __init__(self, *_: object) -> None:
        pass

    async def fingerprint(self) -> str:
        return FAKE_LM

    async def forget(self, clip_digest: str) -> None:
        del clip_digest

    async def status(self) -> dict[str, Any]:
        return {}


class FakeVocoder:
    """Speaks noise, the first chunk at once, in the sizes of the shipped schedule."""

    def __init__(self, *_: object) -> None:
        rng = np.random.default_rng(0)
        sizes = [int(seconds * OUTPUT_SAMPLE_RATE_HZ) for seconds in FAKE_CHUNKS_S]
        self._chunks = [rng.uniform(-0.5, 0.5, size).astype(np.float32) for size in sizes]

    async def speak_aloud(
        self, request: SpeechRequest, sent: Stamped[VoicePrompt]
    ) -> AsyncGenerator[Stamped[SpeechChunk]]:
        del request, sent
        mark = opened()
        mark("vocoder.in")
        ids = np.zeros(5 * round(sum(FAKE_CHUNKS_S) / 0.12), np.int16)
        for i, samples in enumerate(self._chunks):
            await asyncio.sleep(FAKE_PACE_S if i else 0)
            is_last = i == len(self._chunks) - 1
            drawn = Drawn(ids, frozenset({FAKE_VOCODER, FAKE_LM})) if is_last else None
            mark("vocoder.out")
            yield stamped(sent_in_steps(SpeechChunk(samples, is_last, drawn=drawn)))

    async def name(self) -> VocoderName:
        return VocoderName(FAKE_VOCODER, None)

    async def forget(self, clip_digest: str) -> None:
        del clip_digest

    async def status(self) -> dict[str, Any]:
        return {"streams_active": 0, "waiting": 0}


REAL: Mapping[str, type] = {
    TokenizerReplica.__name__: TokenizerReplica,
    LLMReplica.__name__: MarkedLLM,
    VocoderReplica.__name__: MarkedVocoder,
}
FAKE: Mapping[str, type] = {
    TokenizerReplica.__name__: FakeTokenizer,
    LLMReplica.__name__: FakeLLM,
    VocoderReplica.__name__: FakeVocoder,
}


@contextmanager
def _of(stages: Mapping[str, type]) -> Iterator[None]:
    names: dict[str, Any] = {Router.__name__: MarkedRouter, **stages}
    with mock.patch.multiple(app, **names):
        yield


def build_real(args: Mapping[str, Any]) -> Application:
    """The shipped stages."""
    with _of(REAL):
        return app.build_app(args)


def build_fake(args: Mapping[str, Any]) -> Application:
    """Stages that take no time, around the same router."""
    with _of(FAKE):
        return app.build_app(args)
