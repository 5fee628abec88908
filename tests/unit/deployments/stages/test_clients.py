"""The stages across the border, on a handle without a cluster: retries, errors, time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.exceptions
from ray.serve._private.common import DeploymentID
from ray.serve._private.replica import UserCallableWrapper
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)

from deployments.config.settings import Limits
from deployments.liveness.signs import with_signs
from deployments.stages.clients import (
    ATTEMPTS,
    RemoteLM,
    RemoteStatus,
    RemoteTokenizer,
    RemoteVocoder,
)
from deployments.stages.replies import did_not_know, stage_errors
from deployments.telemetry.transfers import Stamped, stamped
from pipeline.contracts import (
    ReferenceClip,
    Sampling,
    SpeechChunk,
    SpeechRequest,
    TokenChunk,
    VoicePrompt,
)
from pipeline.errors import (
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
    TextError,
)
from pipeline.serving.terms import Terms
from tests.fakes import FakeHandle, as_ray_raises, voice_prompt

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]

LIMITS = Limits(
    encode_timeout_s=5, first_audio_timeout_s=7, chunk_timeout_s=3, silence_timeout_s=2.5
)
CLIP = ReferenceClip(np.zeros(100, np.float32), 16_000, "0" * 64)
REQUEST = SpeechRequest("Hello.", "Hi.")
INSIDE = "/srv/models at 10.0.0.7"
DEPLOYMENT = DeploymentID(name="LLM", app_name="timbre")


class Uncounted:
    """Transfers that only unwrap."""

    def received(self, hop: str, record: Stamped) -> object:
        del hop
        return record.value


def gone() -> Exception:
    return ray.exceptions.ActorDiedError()


RAY_ERRORS: list[tuple[Exception, type[Exception], str]] = [
    (as_ray_raises(TextError("empty", param="input")), TextError, "empty"),
    (as_ray_raises(CapacityError("all busy")), CapacityError, "all busy"),
    (as_ray_raises(StageError("it broke", detail=INSIDE)), StageError, "it broke"),
    (as_ray_raises(ValueError(INSIDE)), StageError, "the LLM failed"),
    (ray.exceptions.ActorDiedError(), StageUnavailableError, "replica went away"),
    (
        ray.exceptions.ActorUnavailableError(INSIDE, None),
        StageUnavailableError,
        "replica went away",
    ),
    (ray.exceptions.NodeDiedError(INSIDE), StageUnavailableError, "replica went away"),
    (ray.exceptions.WorkerCrashedError(), StageUnavailableError, "replica went away"),
    (ray.exceptions.OutOfMemoryError(INSIDE), StageUnavailableError, "replica went away"),
    (ray.exceptions.OwnerDiedError("0" * 56, None, ""), StageUnavailableError, "replica went away"),
    (DeploymentUnavailableError(DEPLOYMENT), StageUnavailableError, "replica went away"),
    (ReplicaUnavailableError(INSIDE), StageUnavailableError, "replica went away"),
    (BackPressureError(3, 3), CapacityError, "queue is full"),
    (TimeoutError(INSIDE), StageTimeoutError, "did not answer in time"),
    (ray.exceptions.GetTimeoutError(INSIDE), StageTimeoutError, "did not answer in time"),
    (ray.exceptions.ObjectLostError("0" * 56, None, ""), StageError, "the LLM failed"),
    (ray.exceptions.RaySystemError(INSIDE), StageError, "the LLM failed"),
    (RequestCancelledError("an-id"), StageError, "the LLM failed"),
]


@pytest.mark.parametrize(
    ("raised", "kind", "says"), RAY_ERRORS, ids=[type(row[0]).__name__ for row in RAY_ERRORS]
)
def test_what_ray_raises_becomes_ours(raised: Exception, kind: type, says: str) -> None:
    with pytest.raises(kind) as caught, stage_errors("LLM"):
        raise raised
    assert type(caught.value) is kind
    assert says in caught.value.message
    assert INSIDE not in caught.value.message
    assert caught.value.__cause__ is raised


def test_what_a_replica_does_not_have_is_told_from_what_fails_in_it() -> None:
    """By Serve's own words."""
    older: Any = SimpleNamespace(_cached_user_method_info={}, _is_function=False, _callable=LLM(1))
    with pytest.raises(RayServeException) as said:
        UserCallableWrapper.get_user_method_info(older, "speak_aloud")
    for cause, is_it in (
        (said.value, True),
        (RayServeException("it broke"), False),
        (TypeError("Tried to call a method"), False),
    ):
        raised = ray.exceptions.RayTaskError("ServeReplica.handle_request", "traceback", cause)
        with pytest.raises(StageError) as caught, stage_errors("LLM"):
            raise raised
        assert did_not_know(caught.value) is is_it
    assert not did_not_know(StageError("of ours"))


def test_what_nobody_knows_passes() -> None:
    with pytest.raises(ZeroDivisionError), stage_errors("LLM"):
        raise ZeroDivisionError


class Healthy:
    """A replica that is well."""

    def check_parts(self) -> None: ...


class Tokenizer(Healthy):
    """Fails as often as told, then encodes."""

    def __init__(self, failures: int, error: Callable[[], Exception] = gone) -> None:
        self.left, self.error, self.encodes = failures, error, 0
        self.takes_s = 0.0

    @with_signs
    async def encode_aloud(self, clip: ReferenceClip) -> AsyncGenerator[Stamped[VoicePrompt]]:
        del clip
        self.encodes += 1
        if self.encodes <= self.left:
            raise self.error()
        await asyncio.sleep(self.takes_s)
        yield stamped(voice_prompt())

    async def fingerprint(self) -> str:
        await asyncio.sleep(60)
        return "never"


def encoder_of(tokenizer: Tokenizer) -> RemoteTokenizer:
    return RemoteTokenizer(FakeHandle(tokenizer), LIMITS, Uncounted())  # type: ignore[arg-type]


@pytest.mark.parametrize("failures", range(ATTEMPTS))
async def test_an_encode_survives_lost_replicas(failures: int) -> None:
    tokenizer = Tokenizer(failures)
    voice = await encoder_of(tokenizer).encode(CLIP)
    assert voice.n_groups == 4
    assert tokenizer.encodes == failures + 1


@pytest.mark.parametrize(
    ("error", "kind", "encodes"),
    [
        (gone, StageUnavailableError, ATTEMPTS),
        (lambda: TextError("no"), TextError, 1),
        (lambda: BackPressureError(1, 1), CapacityError, 1),
        (lambda: ValueError("no"), StageError, 1),
    ],
    ids=["gone", "refused", "full", "failed"],
)
async def test_an_encode_gives_up(
    error: Callable[[], Exception], kind: type[Exception], encodes: int
) -> None:
    tokenizer = Tokenizer(99, error)
    with pytest.raises(kind):
        await encoder_of(tokenizer).encode(CLIP)
    assert tokenizer.encodes == encodes


class CutOffTokenizer(Tokenizer):
    """Its machine lost its network: nothing comes of the first clips that it gets."""

    async def encode_aloud(self, clip: ReferenceClip) -> AsyncGenerator[Stamped[VoicePrompt]]:
        del clip
        self.encodes += 1
        await asyncio.sleep(100.0 if self.encodes <= self.left else self.takes_s)
        yield stamped(voice_prompt())


async def test_an_encode_leaves_a_silent_replica_for_another() -> None:
    tokenizer = CutOffTokenizer(1)
    began_s = asyncio.get_running_loop().time()
    await encoder_of(tokenizer).encode(CLIP)
    assert tokenizer.encodes == 2
    assert asyncio.get_running_loop().time() - began_s < LIMITS.silence_timeout_s + 1


async def test_nobody_waits_ten_seconds_for_tokenizers_that_say_nothing() -> None:
    tokenizer = CutOffTokenizer(99)
    encoder = RemoteTokenizer(FakeHandle(tokenizer), Limits(), Uncounted())  # type: ignore[arg-type]
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(StageUnavailableError, match="the tokenizer is silent"):
        await encoder.encode(CLIP)
    assert asyncio.get_running_loop().time() - began_s < 10
    assert tokenizer.encodes == 2


async def test_a_tokenizer_that_wakes_up_first_is_waited_for() -> None:
    tokenizer = CutOffTokenizer(0)
    tokenizer.takes_s = 2 * LIMITS.silence_timeout_s - 0.5  # of encode_timeout_s
    encoder = RemoteTokenizer(FakeHandle(tokenizer), LIMITS, Uncounted(), sleeps=True)  # type: ignore[arg-type]
    assert (await encoder.encode(CLIP)).n_groups == 4
    assert tokenizer.encodes == 1


class OlderTokenizer(Healthy):
    """One of before an update, which gives no signs of life."""

    async def encode(self, clip: ReferenceClip) -> Stamped[VoicePrompt]:
        del clip
        await asyncio.sleep(LIMITS.encode_timeout_s - 0.1)
        return stamped(voice_prompt())


async def test_a_tokenizer_of_before_an_update_is_waited_for() -> None:
    handle = FakeHandle(OlderTokenizer())
    encoder = RemoteTokenizer(handle, LIMITS, Uncounted())  # type: ignore[arg-type]
    assert (await encoder.encode(CLIP)).n_groups == 4
    assert [method for method, _ in handle.calls] == ["encode_aloud", "encode"]


async def test_a_long_encode_is_waited_for() -> None:
    tokenizer = Tokenizer(0)
    tokenizer.takes_s = LIMITS.encode_timeout_s - 0.1
    assert (await encoder_of(tokenizer).encode(CLIP)).n_groups == 4
    assert tokenizer.encodes == 1


async def test_a_tokenizer_that_is_silent_is_a_timeout() -> None:
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(StageTimeoutError, match="tokenizer did not answer in time"):
        await encoder_of(Tokenizer(0)).fingerprint()
    waited_s = asyncio.get_running_loop().time() - began_s
    assert waited_s == pytest.approx(LIMITS.encode_timeout_s)


class Known(Tokenizer):
    """Tells its fingerprint."""

    name = "a"

    async def fingerprint(self) -> str:
        return self.name


async def test_a_tokenizer_that_sleeps_is_not_woken_to_tell_what_it_is() -> None:
    known = Known(0)
    handle = FakeHandle(known)
    encoder = RemoteTokenizer(handle, LIMITS, Uncounted(), sleeps=True)  # type: ignore[arg-type]
    assert await encoder.fingerprint() == "a"
    asked = len(handle.sessions)  # calls of `remote`, which Serve starts a replica for
    known.name = "b"
    assert await encoder.fingerprint() == "b", "one that is awake is asked"
    handle.replicas.clear()
    assert await encoder.fingerprint() == "b"
    handle.replicas[:] = [Tokenizer(0)]
    with pytest.raises(StageTimeoutError):
        await encoder.fingerprint()
    assert len(handle.sessions) == asked


def spoken(last: bool = False, n_samples: int = 10) -> Stamped[SpeechChunk]:
    return stamped(SpeechChunk(np.zeros(n_samples, np.float32), last))


class Speaks(Healthy):
    """Each attempt follows its script: chunks, and errors or seconds of silence between them."""

    def __init__(self, *scripts: list[Stamped[SpeechChunk] | Exception | float]) -> None:
        self.scripts, self.attempts = list(scripts), 0

    async def say(
        self, request: SpeechRequest, voice: Stamped[VoicePrompt]
    ) -> AsyncGenerator[Stamped[SpeechChunk]]:
        del request, voice
        script = self.scripts[self.attempts]
        self.attempts += 1
        for event in script:
            if isinstance(event, Exception):
                raise event
            if isinstance(event, float):
                await asyncio.sleep(event)
            else:
                yield event


class Vocoder(Speaks):
    """It tells that it lives meanwhile."""

    speak_aloud = with_signs(Speaks.say)


class CutOffVocoder(Speaks):
    """Its machine lost its network: nothing comes of it but what the script has."""

    speak_aloud = Speaks.say


class OlderVocoder(Speaks):
    """One of before an update, which knows no signs of life."""

    speak = Speaks.say


async def heard(vocoder: Speaks) -> tuple[int, FakeHandle]:
    handle = FakeHandle(vocoder)
    synthesizer = RemoteVocoder(handle, LIMITS, Uncounted())  # type: ignore[arg-type]
    chunks = [chunk async for chunk in synthesizer.speak(REQUEST, voice_prompt())]
    assert chunks[-1].last
    return len(chunks), handle


async def test_a_replica_lost_before_the_first_audio_is_replaced() -> None:
    silent = spoken(n_samples=0)
    vocoder = Vocoder([gone()], [silent, gone()], [silent, spoken(), spoken(last=True)])
    n_chunks, handle = await heard(vocoder)
    assert vocoder.attempts == ATTEMPTS
    assert n_chunks == 4  # what made no sound may come twice
    assert handle.cancelled == ATTEMPTS
    assert handle.sessions == [voice_prompt().clip_digest] * ATTEMPTS


@pytest.mark.parametrize(
    ("scripts", "kind", "attempts"),
    [
        ([[gone()]] * ATTEMPTS, StageUnavailableError, ATTEMPTS),
        ([[spoken(), gone()]], StageUnavailableError, 1),
        ([[ValueError("no")]], StageError, 1),
        ([[CapacityError("full")]], CapacityError, 1),
        ([[spoken()]], StageError, 1),
        ([[8.0, spoken(last=True)]], StageTimeoutError, 1),
        ([[6.0, spoken(), 4.0, spoken(last=True)]], StageTimeoutError, 1),
    ],
    ids=["never", "after audio", "failed", "full", "no end", "first is late", "next is late"],
)
async def test_a_stream_that_cannot_be_had(scripts: list, kind: type, attempts: int) -> None:
    vocoder = Vocoder(*scripts)
    with pytest.raises(kind):
        await heard(vocoder)
    assert vocoder.attempts == attempts


async def test_a_replica_that_says_nothing_is_left_for_another() -> None:
    vocoder = CutOffVocoder([100.0], [spoken(), spoken(last=True)])
    began_s = asyncio.get_running_loop().time()
    n_chunks, handle = await heard(vocoder)
    assert (n_chunks, vocoder.attempts, handle.cancelled) == (2, 2, 2)
    assert asyncio.get_running_loop().time() - began_s < LIMITS.silence_timeout_s + 1


@pytest.mark.parametrize(
    ("script", "attempts"),
    [([100.0], 2), ([spoken(), 100.0, spoken(last=True)], 1)],
    ids=["never heard", "no longer heard"],
)
async def test_nobody_waits_ten_seconds_for_replicas_that_say_nothing(
    script: list, attempts: int
) -> None:
    usual = Limits()
    vocoder = CutOffVocoder(*[script] * ATTEMPTS)
    synthesizer = RemoteVocoder(FakeHandle(vocoder), usual, Uncounted())  # type: ignore[arg-type]
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(StageUnavailableError, match="the vocoder is silent"):
        [chunk async for chunk in synthesizer.speak(REQUEST, voice_prompt())]
    assert asyncio.get_running_loop().time() - began_s < 10
    assert vocoder.attempts == attempts


@pytest.mark.parametrize("script", [[6.0], [spoken(), 2.9]], ids=["first", "next"])
async def test_a_vocoder_of_before_an_update_is_waited_for(script: list) -> None:
    vocoder = OlderVocoder([*script, spoken(last=True)])
    n_chunks, handle = await heard(vocoder)
    assert (n_chunks, vocoder.attempts) == (len(script), 1)
    assert handle.sessions == [voice_prompt().clip_digest] * 2


async def test_a_place_in_line_is_waited_for_as_long_as_the_settings_say() -> None:
    usual = Limits()
    vocoder = Vocoder([usual.first_audio_timeout_s - 1, spoken(last=True)])
    synthesizer = RemoteVocoder(FakeHandle(vocoder), usual, Uncounted())  # type: ignore[arg-type]
    assert len([chunk async for chunk in synthesizer.speak(REQUEST, voice_prompt())]) == 1
    assert vocoder.attempts == 1


async def test_whoever_leaves_tells_the_replica() -> None:
    handle = FakeHandle(Vocoder([spoken(), 100.0, spoken(last=True)]))
    synthesizer = RemoteVocoder(handle, LIMITS, Uncounted())  # type: ignore[arg-type]
    chunks = synthesizer.speak(REQUEST, voice_prompt())
    await anext(chunks)
    await chunks.aclose()
    assert handle.cancelled == 1


class LLM(Healthy):
    """Yields groups as fast as they are taken."""

    def __init__(self, n_groups: int) -> None:
        self.n_groups, self.clip_digest = n_groups, ""

    async def stream_aloud(
        self, prompt_ids: np.ndarray, sampling: Sampling, clip_digest: str, *terms: object
    ) -> AsyncGenerator[Stamped[TokenChunk]]:
        del prompt_ids, sampling, terms
        self.clip_digest = clip_digest
        for index in range(self.n_groups):
            yield stamped(TokenChunk(np.zeros(5, np.int32), last=index == self.n_groups - 1))


def lm_of(handle: FakeHandle) -> RemoteLM:
    return RemoteLM(handle, LIMITS, Uncounted())  # type: ignore[arg-type]


async def test_an_answer_is_one_call_however_slowly_it_is_read() -> None:
    llm = LLM(n_groups=40)
    handle = FakeHandle(llm)
    n_tokens = 0
    lm = lm_of(handle).of("ab" * 32)
    async for chunk in lm.stream(np.zeros(3, np.int32), Sampling()):
        n_tokens += len(chunk.ids)
        await asyncio.sleep(2 * LIMITS.chunk_timeout_s)
    assert n_tokens == 200
    assert llm.clip_digest == "ab" * 32
    assert handle.sessions == ["ab" * 32]  # what a replica is preferred by
    assert [method for method, _ in handle.calls] == ["stream_aloud"]
    assert handle.cancelled == 1


class TellingLLM(Healthy):
    """asked: what it was told beside the prompt."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def stream_aloud(self, *args: object) -> AsyncGenerator[Stamped[TokenChunk]]:
        self.asked.append(args[3:])
        for last in (False, True):
            yield stamped(TokenChunk(np.zeros(5, np.int32), last))


class OlderLLM(Healthy):
    """One of before an update: it gives no signs of life, and knows nothing of when it is due."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def stream(
        self, prompt_ids: np.ndarray, sampling: Sampling, clip_digest: str, is_behind: bool = False
    ) -> AsyncGenerator[Stamped[TokenChunk]]:
        del prompt_ids, sampling, clip_digest
        self.asked.append((is_behind,))
        await asyncio.sleep(LIMITS.chunk_timeout_s - 0.1)
        for last in (False, True):
            yield stamped(TokenChunk(np.zeros(5, np.int32), last))


@pytest.mark.parametrize("is_behind", [False, True])
@pytest.mark.parametrize("left_s", [None, 2.5])
async def test_when_an_answer_is_due_goes_along_and_an_older_replica_does_without(
    is_behind: bool, left_s: float | None
) -> None:
    due_s = None if left_s is None else time.monotonic() + left_s
    for llm, asked in ((TellingLLM(), (is_behind, left_s)), (OlderLLM(), (is_behind,))):
        lm = lm_of(FakeHandle(llm)).of("ab" * 32, is_behind=is_behind, due_s=due_s)
        chunks = [one async for one in lm.stream(np.zeros(3, np.int32), Sampling())]
        assert [one.last for one in chunks] == [False, True]
        assert llm.asked == [asked]


async def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    handle = FakeHandle(SilentLLM(TypeError("of its own")))
    with pytest.raises(StageError):
        async for _ in lm_of(handle).stream(np.zeros(3, np.int32), Sampling()):
            pass
    assert [method for method, _ in handle.calls] == ["stream_aloud"]


async def test_a_vocoder_is_told_how_many_seconds_are_left() -> None:
    handle = FakeHandle(Vocoder([spoken(last=True)]))
    synthesizer = RemoteVocoder(handle, LIMITS, Uncounted())  # type: ignore[arg-type]
    request = replace(REQUEST, terms=Terms(tenant="acme", due_s=time.monotonic() + 2.0))
    await asyncio.sleep(0.5)
    async for _ in synthesizer.speak(request, voice_prompt()):
        pass
    ((_, (sent, _)),) = handle.calls
    assert isinstance(sent, SpeechRequest)
    assert sent.terms == Terms(tenant="acme", due_s=pytest.approx(1.5))


class SilentLLM(LLM):
    """Says one group, and then nothing or that it is gone."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(1)
        self.error = error

    async def stream_aloud(self, *args: object) -> AsyncGenerator[Stamped[TokenChunk]]:
        del args
        yield stamped(TokenChunk(np.zeros(5, np.int32), last=False))
        if self.error is not None:
            raise self.error
        await asyncio.sleep(100)


class BusyLLM(SilentLLM):
    """It lives."""

    stream_aloud = with_signs(SilentLLM.stream_aloud)


@pytest.mark.parametrize(
    ("llm", "kind"),
    [
        (BusyLLM(), StageTimeoutError),
        (SilentLLM(), StageUnavailableError),
        (SilentLLM(gone()), StageUnavailableError),
        (SilentLLM(CapacityError("full")), CapacityError),
    ],
    ids=["late", "silent", "gone", "full"],
)
async def test_an_answer_that_breaks_off_leaves_nothing(
    llm: SilentLLM, kind: type[Exception]
) -> None:
    handle = FakeHandle(llm)
    chunks = lm_of(handle).stream(np.zeros(3, np.int32), Sampling())
    await anext(chunks)
    with pytest.raises(kind):
        await anext(chunks)
    assert handle.cancelled == 1
    await chunks.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    assert handle.cancelled == 1


async def test_an_answer_closed_before_it_was_read_was_never_asked_for() -> None:
    handle = FakeHandle(LLM(n_groups=1))
    chunks = lm_of(handle).stream(np.zeros(3, np.int32), Sampling())
    await chunks.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    assert (handle.calls, handle.cancelled) == ([], 0)


async def test_whoever_is_cancelled_while_waiting_for_tokens_tells_the_llm() -> None:
    handle = FakeHandle(SilentLLM())
    chunks = lm_of(handle).stream(np.zeros(3, np.int32), Sampling())
    await anext(chunks)
    waiting = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert handle.cancelled == 1


class BrokenLLM(LLM):
    async def stream_aloud(self, *args: object) -> AsyncGenerator[Stamped[TokenChunk]]:
        del args
        yield stamped(TokenChunk(np.zeros(5, np.int32), last=False))


async def test_tokens_without_an_end_are_an_error() -> None:
    with pytest.raises(StageError, match="without its last chunk"):
        async for _ in lm_of(FakeHandle(BrokenLLM(1))).stream(np.zeros(3, np.int32), Sampling()):
            pass


class Replica:
    def __init__(self, answer: dict[str, int] | Exception | float) -> None:
        self.answer = answer

    async def status(self) -> dict[str, int]:
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, float):
            await asyncio.sleep(self.answer)
            return {}
        return self.answer


async def test_gauges_of_those_that_answer() -> None:
    status = RemoteStatus("LLM", FakeHandle(Replica({"n": 1}), Replica(gone())))  # type: ignore[arg-type]
    assert await status.replicas() == [{"n": 1}]


async def test_one_replica_that_hangs_does_not_hide_the_others() -> None:
    handle = FakeHandle(Replica({"n": 1}), Replica(99.0))
    assert await RemoteStatus("LLM", handle).replicas() == [{"n": 1}]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("replicas", "kind"),
    [
        ([], StageUnavailableError),
        ([Replica(gone())], StageUnavailableError),
        ([Replica(99.0), Replica(99.0)], StageTimeoutError),
    ],
    ids=["none", "gone", "silent"],
)
async def test_no_gauges(replicas: list[Replica], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await RemoteStatus("LLM", FakeHandle(*replicas)).replicas()  # type: ignore[arg-type]
