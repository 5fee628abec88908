"""The three stages without torch, and a deployment handle without a cluster.

Small, deterministic, and honest about their contracts.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Self

import numpy as np
from ray.exceptions import RayError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from deployments.liveness.signs import Alive
from pipeline.chain import Script
from pipeline.contracts import (
    NO_LIMIT_TOKENS,
    NO_TIMES,
    AudioChunk,
    Drawn,
    Int32Array,
    Quality,
    ReferenceClip,
    Sampling,
    SpeechChunk,
    SpeechRequest,
    TokenChunk,
    Usage,
    VocoderName,
    VoicePrompt,
    VoiceReference,
    Warping,
)
from pipeline.errors import StageUnavailableError
from pipeline.synthesis import ResolvedVoice

SAMPLES_PER_GROUP = 2880  # 120 ms at 24 kHz


def voice_prompt(n_groups: int = 4, seed: int = 0) -> VoicePrompt:
    """A plausible prompt of `n_groups` groups."""
    rng = np.random.default_rng(seed)
    return VoicePrompt(
        vq02=rng.integers(0, 1024, 2 * n_groups).astype(np.int16),
        vq06=rng.integers(0, 4096, 3 * n_groups).astype(np.int16),
        prompt_mel=rng.standard_normal((6 * n_groups, 80)).astype(np.float32),
        speaker_embedding=rng.standard_normal(192).astype(np.float32),
        duration_s=0.12 * n_groups,
        fingerprint="f" * 64,
    )


class FakeEncoder:
    """Counts encodes; the prompt depends on the clip's digest."""

    def __init__(self) -> None:
        self.encodes = 0

    @property
    def fingerprint(self) -> str:
        return "f" * 64

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        self.encodes += 1
        return voice_prompt(seed=int(clip.digest[:8], 16))


class FakeVoices:
    """Resolves every reference to the same prompt."""

    def __init__(self, tier: str = "l1", warnings: tuple[str, ...] = ()) -> None:
        self.tier = tier
        self.warnings = warnings

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        digest = (reference.upload or b"").hex().ljust(64, "0")
        prompt = replace(voice_prompt(), clip_digest=digest)
        return ResolvedVoice(prompt, self.tier, self.warnings)


class FakePrompts:
    """A prompt is the speaker's and the passage's code points; a passage ends at a full stop."""

    front_end = None

    def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
        for passage in request.text.split(".") if "." in request.text else [request.text]:
            if passage:
                ids = np.array([ord(c) for c in voice.clip_digest + passage], np.int32)
                yield Script(ids, request.sampling.over(Warping()), 10, NO_LIMIT_TOKENS)


class FakeLM:
    """`n_chunks` chunks of one group each, derived from prompt and seed; counts open streams."""

    def __init__(
        self, n_chunks: int = 3, *, fail_at: int | None = None, delay_s: float = 0.0
    ) -> None:
        self.open_streams = 0
        self._n_chunks = n_chunks
        self._fail_at = fail_at
        self._delay_s = delay_s

    async def stream(
        self, prompt_ids: Int32Array, sampling: Sampling
    ) -> AsyncGenerator[TokenChunk]:
        rng = np.random.default_rng([int(prompt_ids.sum()), sampling.seed])
        self.open_streams += 1
        try:
            for index in range(self._n_chunks):
                await asyncio.sleep(self._delay_s)
                if index == self._fail_at:
                    raise RuntimeError("the fake LM was told to fail")
                ids = np.concatenate([rng.integers(0, 1024, 2), rng.integers(1024, 5120, 3)])
                work_s = (index + 1) * self._delay_s
                yield TokenChunk(ids.astype(np.int32), index == self._n_chunks - 1, work_s)
        finally:
            self.open_streams -= 1


class FakeDecoder:
    """Every group becomes 120 ms whose level follows its tokens; counts open streams."""

    def __init__(self) -> None:
        self.open_streams = 0

    async def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        del voice, first_chunk_rows
        self.open_streams += 1
        try:
            async for chunk in tokens:
                levels = np.repeat(chunk.ids[::5] / 5120.0, SAMPLES_PER_GROUP).astype(np.float32)
                yield AudioChunk(levels, chunk.last)
        finally:
            self.open_streams -= 1


class FakeSynthesizer:
    """Two chunks of a steady level for every request, which it keeps. go: lets the second out."""

    def __init__(self) -> None:
        self.requests: list[SpeechRequest] = []
        self.speakers: list[str] = []
        self.go = asyncio.Event()
        self.go.set()

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        self.requests.append(request)
        self.speakers.append(voice.clip_digest)
        samples = np.full(SAMPLES_PER_GROUP, 0.25, np.float32)
        yield SpeechChunk(samples, last=False)
        await self.go.wait()
        yield SpeechChunk(samples, last=True)


class FakeNames:
    """Tells what the fakes are, by content; both can be replaced."""

    def __init__(self) -> None:
        self.names = {"vocoder": "c" * 64, "lm": "d" * 64}
        self.is_silent = False

    async def vocoder(self) -> VocoderName:
        if self.is_silent:
            raise StageUnavailableError("no vocoder")
        return VocoderName(self.names["vocoder"], None)

    async def lm(self, variant: str) -> str:
        return self.names["lm"] + variant.encode().hex()


class TellingSpeaker:
    """Speaks `n_chunks` chunks that follow from the seed, and says what it drew; counts streams.

    step: each chunk waits for one permit; None lets all out.
    """

    def __init__(self, names: FakeNames, n_chunks: int = 3) -> None:
        self.requests: list[SpeechRequest] = []
        self.n_chunks = n_chunks
        self.open_streams = 0
        self.step: asyncio.Semaphore | None = None
        self.error: Exception | None = None
        self.quality = Quality()
        self._names = names

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del voice
        self.requests.append(request)
        self.open_streams += 1
        made_by = frozenset({self._names.names["vocoder"], await self._names.lm(request.variant)})
        rng = np.random.default_rng(request.sampling.seed)
        try:
            for index in range(self.n_chunks):
                if self.step is not None:
                    await self.step.acquire()
                if self.error is not None and index == self.n_chunks - 1:
                    raise self.error
                samples = rng.uniform(-0.9, 0.9, SAMPLES_PER_GROUP).astype(np.float32)
                is_last = index == self.n_chunks - 1
                drawn = Drawn(np.zeros(5 * self.n_chunks, np.int16), made_by) if is_last else None
                usage = Usage(7, 5 * (index + 1))
                yield SpeechChunk(samples, is_last, NO_TIMES, self.quality, usage, drawn)
        finally:
            self.open_streams -= 1


class FakeHandle:
    """What clients use of Serve's DeploymentHandle, on plain objects: each is a replica.

    Calls go to the replicas in turn. Errors of Ray that a replica raises reach the caller as they
    are, any other as what Ray makes of it. calls: (method, arguments) of all. sessions: the
    `session_id` of each call of `remote`.
    """

    def __init__(self, *replicas: object) -> None:
        self.replicas = list(replicas)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.sessions: list[str] = []
        self.cancelled = 0
        self._turns = itertools.count()
        self._session = ""
        self._method, self._is_stream = "__call__", False
        self._origin: FakeHandle = self

    def options(self, *, method_name: str = "", stream: bool = False, session_id: str = "") -> Self:
        """See DeploymentHandle: what is left out stays as it is."""
        made = type(self)()
        made._method, made._is_stream = method_name or self._method, stream or self._is_stream
        made._session, made._origin = session_id or self._session, self._origin
        return made

    def remote(self, *args: object) -> FakeResponse | FakeStream:
        """See DeploymentHandle."""
        origin = self._origin
        origin.calls.append((self._method, args))
        origin.sessions.append(self._session)
        replica = origin.replicas[next(origin._turns) % len(origin.replicas)]
        if not self._is_stream:
            return FakeResponse(getattr(replica, self._method)(*args))
        method = getattr(replica, self._method, None)
        return FakeStream(_unknown(self._method) if method is None else method(*args), origin)

    def broadcast(self, method: str, *args: object) -> FakeBroadcast:
        """See DeploymentHandle."""
        origin = self._origin
        origin.calls.append((method, args))
        return FakeBroadcast([getattr(replica, method)(*args) for replica in origin.replicas])


def as_ray_raises(error: Exception) -> Exception:
    """An error of a replica as its caller gets it."""
    if isinstance(error, RayError | RayServeException | TimeoutError):
        return error
    return RayTaskError("ServeReplica.handle_request", "remote traceback", error)


async def _unknown(method: str) -> AsyncGenerator[object]:
    """A call of what a replica does not have."""
    said = f"Tried to call a method '{method}' that does not exist. Available methods: []."
    raise RayTaskError("ServeReplica.handle_request", "remote traceback", RayServeException(said))
    yield


class FakeResponse:
    """A call's answer; see DeploymentResponse."""

    def __init__(self, call: Awaitable[object]) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, None, object]:
        try:
            return (yield from self._call.__await__())
        except Exception as error:  # noqa: BLE001 - as Ray does
            raise as_ray_raises(error) from None


class FakeStream:
    """A stream of answers; see DeploymentResponseGenerator."""

    def __init__(self, answers: AsyncGenerator[object], handle: FakeHandle) -> None:
        self._answers = answers
        self._handle = handle

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        try:
            return await anext(self._answers)
        except StopAsyncIteration:
            raise
        except Exception as error:  # noqa: BLE001 - as Ray does
            raise as_ray_raises(error) from None

    def cancel(self) -> None:
        """Tell the replica that nobody reads on."""
        self._handle.cancelled += 1


class FakeBroadcast:
    """The answers of all replicas; see DeploymentBroadcastResponse."""

    def __init__(self, calls: list[Awaitable[object]]) -> None:
        self._calls = [FakeResponse(call) for call in calls]

    async def results_async(
        self, *, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> list[object]:
        """One answer a replica, or its error where the caller wants them all."""
        if not self._calls:
            raise DeploymentUnavailableError(DeploymentID("fake"))
        async with asyncio.timeout(timeout_s):
            return await asyncio.gather(*self._calls, return_exceptions=return_exceptions)


async def without_signs(stream: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """What a stage's stream says beside that it lives."""
    async with aclosing(stream) as items:
        async for item in items:
            if not isinstance(item, Alive):
                yield item


class FakeHearing:
    """A recogniser: the words of a clip as told, counted.

    words: by clip digest; others are heard as `usual`. error: raised in place of words.
    """

    def __init__(self, usual: str = "what was heard") -> None:
        self.words: dict[str, str] = {}
        self.usual = usual
        self.error: Exception | None = None
        self.heard: list[str] = []
        self.name = "a" * 64

    async def fingerprint(self) -> str:
        if self.error is not None:
            raise self.error
        return self.name

    async def transcribe(self, clip: ReferenceClip) -> str:
        self.heard.append(clip.digest)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.words.get(clip.digest, self.usual)
