"""The stages as seen across the Ray border: handles become the pipeline's Protocols.

Owns retries (only before the first audio) and timeouts.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import math
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Self, cast

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deployments.config.settings import Limits
from deployments.liveness.patience import Patience, heard
from deployments.stages.replies import RepliesAloud, did_not_know, stage_errors
from deployments.telemetry.transfers import Hop, Stamped, Transfers, stamped
from pipeline.contracts import (
    Int16Array,
    Int32Array,
    ReferenceClip,
    Sampling,
    SpeechChunk,
    SpeechRequest,
    Stream,
    TokenChunk,
    VocoderName,
    VoicePrompt,
)
from pipeline.errors import StageError, StageUnavailableError
from pipeline.marks.finding import Finding
from pipeline.serving.tracing import UNTRACED, Trace, here

ATTEMPTS = 3  # per request and stage, before the first audio only
RETRY_DELAY_S = 0.25
STATUS_TIMEOUT_S = 2.0
FIND_TIMEOUT_S = 60.0
NS = 10**9
NAME_TIMEOUT_S = 5.0  # what the stages that speak are, by content, is part of keys of speech


class _Retried:
    """Calls of one stage that may be made again: a lost replica is retried on another.

    silence_s: after so long no further attempt is made when one fails.
    """

    def __init__(self, stage: str, timeout_s: float, silence_s: float = math.inf) -> None:
        self._stage, self._timeout_s, self._silence_s = stage, timeout_s, silence_s

    async def __call__(self, method: DeploymentHandle, *args: object) -> Any:
        attempt, began_s = 1, time.monotonic()
        while True:
            is_late = time.monotonic() - began_s >= self._silence_s
            try:
                with stage_errors(self._stage):
                    async with asyncio.timeout(self._timeout_s):
                        return await self._answer(method, args)
            except StageUnavailableError:
                if is_late or attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(RETRY_DELAY_S * attempt)
                attempt += 1

    async def _answer(self, method: DeploymentHandle, args: tuple[object, ...]) -> Any:
        return await method.remote(*args)


class _RetriedAloud(_Retried):
    """The same of a stream of one item, whose replica gives signs of life meanwhile.

    silence_s: the longest time without one, too.
    """

    async def _answer(self, method: DeploymentHandle, args: tuple[object, ...]) -> Any:
        response = cast("DeploymentResponseGenerator[Any]", method.remote(*args))
        try:
            return await heard(self._stage, response, self._silence_s)
        finally:
            response.cancel()


class RemoteTokenizer:
    """The tokenizer deployment as the voice encoder.

    sleeps: it may have no replica while nobody needs it, and is not woken to tell what it is.
    """

    def __init__(
        self,
        handle: DeploymentHandle,
        limits: Limits,
        transfers: Transfers,
        *,
        sleeps: bool = False,
    ) -> None:
        self._transfers = transfers
        self._handle, self._sleeps = handle, sleeps
        self._told: str | None = None
        self._timeout_s = limits.encode_timeout_s
        self._encode_aloud = handle.options(method_name="encode_aloud", stream=True)
        self._encode = handle.options(method_name="encode")  # of a replica before an update
        self._identity = handle.options(method_name="fingerprint")
        self._retrying = _Retried("tokenizer", limits.encode_timeout_s)
        # one that is asleep says nothing until it has started
        silence_s = limits.encode_timeout_s if sleeps else limits.silence_timeout_s
        self._encoding = _RetriedAloud("tokenizer", limits.encode_timeout_s, silence_s)

    async def fingerprint(self) -> str:
        """The fingerprint of the encoder that runs now, or of that which sleeps."""
        told = self._told
        if told is None or not self._sleeps:
            told = await self._retrying(self._identity)
        else:
            with contextlib.suppress(StageUnavailableError), stage_errors("tokenizer"):
                answers = await self._handle.broadcast("fingerprint").results_async(
                    timeout_s=self._timeout_s, return_exceptions=True
                )
                told = next((one for one in answers if isinstance(one, str)), told)
        self._told = told
        return told

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        """Encoding is idempotent, so a lost replica is retried on another."""
        trace = here()
        told = (trace.sent(),) if trace else ()  # a replica of before traces takes no more
        try:
            sent = await self._encoding(self._encode_aloud, clip, *told)
        except StageError as error:
            if not did_not_know(error):
                raise
            sent = await self._retrying(self._encode, clip)
        came_back(trace, sent.sent_s)
        return self._transfers.received(Hop.TOKENIZER_ROUTER, sent)


class RemoteTranscriber:
    """The recogniser's deployment, as deployments.voices.transcripts.Hearing."""

    def __init__(self, handle: DeploymentHandle, timeout_s: float) -> None:
        self._transcribe = handle.options(method_name="transcribe")
        self._identity = handle.options(method_name="fingerprint")
        self._retrying = _Retried("recogniser", timeout_s)

    async def fingerprint(self) -> str:
        """The fingerprint of the recogniser that runs now."""
        return await self._retrying(self._identity)

    async def transcribe(self, clip: ReferenceClip) -> str:
        """What is said in a clip; the same for the same clip, so that it may be asked again."""
        return await self._retrying(self._transcribe, clip)


class RemoteLM:
    """The LLM deployment as a SpeechLM."""

    def __init__(self, handle: DeploymentHandle, limits: Limits, transfers: Transfers) -> None:
        self._transfers = transfers
        self._stream_aloud = handle.options(method_name="stream_aloud", stream=True)
        self._stream = handle.options(method_name="stream", stream=True)
        self._patience = Patience.of(limits)
        self._clip_digest = ""
        self._is_behind = False
        self._due_s: float | None = None
        self._trace = UNTRACED

    def of(
        self,
        clip_digest: str,
        *,
        is_behind: bool = False,
        due_s: float | None = None,
        trace: Trace = UNTRACED,
    ) -> Self:
        """The same LM, for the prompts of one voice: what the replica's `forget` finds by its clip.

        And what routing prefers a replica by, where `llm.voice_affinity` is on. is_behind: what it
        draws is for nobody who listens. due_s: monotonic clock, when the answer is wanted; who is
        due first has the next slot. trace: what its spans lie below.
        """
        one = copy.copy(self)
        one._trace = trace
        one._clip_digest, one._is_behind, one._due_s = clip_digest, is_behind, due_s
        one._stream_aloud = self._stream_aloud.options(session_id=clip_digest)
        return one

    def stream(self, prompt_ids: Int32Array, sampling: Sampling) -> Stream[TokenChunk]:
        """See contracts.SpeechLM."""
        asked = (prompt_ids, sampling, self._clip_digest)
        left_s = None if self._due_s is None else self._due_s - time.monotonic()

        def ask_older() -> object:
            stream = self._stream.options(session_id=self._clip_digest)
            return stream.remote(*asked, True) if self._is_behind else stream.remote(*asked)

        told = (self._trace.sent(),) if self._trace else ()
        return RepliesAloud[TokenChunk](
            "LLM",
            partial(self._stream_aloud.remote, *asked, self._is_behind, left_s, *told),
            ask_older,
            partial(self._transfers.received, Hop.LLM_VOCODER),
            self._patience,
        )


class RemoteVocoder:
    """The vocoder deployment (which pulls from the LLM) as a Synthesizer."""

    def __init__(self, handle: DeploymentHandle, limits: Limits, transfers: Transfers) -> None:
        self._transfers = transfers
        self._speak_aloud = handle.options(method_name="speak_aloud", stream=True)
        self._speak = handle.options(method_name="speak", stream=True)
        self._patience = Patience.of(limits, limits.first_audio_timeout_s)
        self._silence_s = limits.silence_timeout_s

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """Retries a lost replica, but only while nothing has been heard.

        Two of them that say nothing are enough: whoever waits for speech has waited long. Where its
        voice already took so long that it is overdue by as much, one is.
        """
        give_up_s = time.monotonic() + self._silence_s
        due_s = request.terms.due_s
        overdue_s = math.inf if due_s is None else due_s + self._silence_s
        trace = here()
        for attempt in range(1, ATTEMPTS + 1):
            has_audio, is_late = False, time.monotonic() >= give_up_s
            try:
                async with aclosing(self._once(request, voice, trace)) as chunks:
                    async for chunk in chunks:
                        has_audio = has_audio or len(chunk.samples) > 0
                        yield chunk
            except StageUnavailableError:
                is_late = is_late or time.monotonic() >= overdue_s
                if has_audio or is_late or attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(RETRY_DELAY_S * attempt)
            else:
                return

    def _once(
        self, request: SpeechRequest, voice: VoicePrompt, trace: Trace
    ) -> Stream[SpeechChunk]:
        terms = replace(request.terms.sent(time.monotonic()), trace=trace.sent())
        sent = replace(request, terms=terms)

        def ask(speak: DeploymentHandle) -> object:
            return speak.options(session_id=voice.clip_digest).remote(sent, stamped(voice))

        def received(chunk: Stamped[SpeechChunk]) -> SpeechChunk:
            came_back(trace, chunk.sent_s)
            return self._transfers.received(Hop.VOCODER_ROUTER, chunk)

        return RepliesAloud[SpeechChunk](
            "vocoder",
            partial(ask, self._speak_aloud),
            partial(ask, self._speak),
            received,
            self._patience,
        )


def came_back(trace: Trace, sent_s: float) -> None:
    """Note the way of an answer, sent then by the wall clock."""
    trace.noted("way", round(sent_s * NS), answer=True)


class RemoteNames:
    """The vocoder deployment and the LLM's variants, as deployments.speech.models.Namer."""

    def __init__(self, vocoder: DeploymentHandle, llms: Mapping[str, DeploymentHandle]) -> None:
        self._vocoder = vocoder.options(method_name="name")
        self._llms = {
            variant: llm.options(method_name="fingerprint") for variant, llm in llms.items()
        }

    async def vocoder(self) -> VocoderName:
        """Raises StageError and its kinds when none answers."""
        with stage_errors("vocoder"):
            async with asyncio.timeout(NAME_TIMEOUT_S):
                return await self._vocoder.remote()

    async def lm(self, variant: str) -> str:
        """The fingerprint of a variant's LLM. Raises StageError and its kinds."""
        with stage_errors("LLM"):
            async with asyncio.timeout(NAME_TIMEOUT_S):
                return await self._llms[variant].remote()


class RemoteMarks:
    """The vocoder deployment as a finder of marks."""

    def __init__(self, vocoder: DeploymentHandle) -> None:
        self._find = vocoder.options(method_name="find_mark")
        self._retrying = _Retried("vocoder", FIND_TIMEOUT_S)

    async def find(self, samples: Int16Array) -> Finding:
        """See deployments.marks.search.MarkFinder; the same for the same samples."""
        return await self._retrying(self._find, samples)


class RemoteStatus:
    """Gauges of a stage's replicas."""

    def __init__(self, stage: str, handle: DeploymentHandle) -> None:
        self._stage = stage
        self._handle = handle
        self._any = handle.options(method_name="status")

    async def replicas(self) -> list[dict[str, Any]]:
        """Of every replica; of one of them when others keep all waiting.

        Raises StageUnavailableError when there is none, StageTimeoutError when none answers in
        time.
        """
        with stage_errors(self._stage):
            try:
                answers = await self._handle.broadcast("status").results_async(
                    timeout_s=STATUS_TIMEOUT_S, return_exceptions=True
                )
            except TimeoutError:
                async with asyncio.timeout(STATUS_TIMEOUT_S):
                    answers = [await self._any.remote()]
        statuses = [answer for answer in answers if isinstance(answer, dict)]
        if not statuses:
            raise StageUnavailableError(f"no replica of the {self._stage} answered")
        return statuses
