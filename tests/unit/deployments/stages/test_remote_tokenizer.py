"""The tokenizer across the border, on a handle without a cluster: retries, silence, sleep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest
from ray.serve.exceptions import (
    BackPressureError,
)

from deployments.config.settings import Limits
from deployments.liveness.signs import with_signs
from deployments.stages.clients import (
    ATTEMPTS,
    RemoteTokenizer,
)
from deployments.telemetry.transfers import Stamped, stamped
from pipeline.contracts import (
    ReferenceClip,
    VoicePrompt,
)
from pipeline.errors import (
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
    TextError,
)
from tests.fakes import FakeHandle, voice_prompt
from tests.unit.deployments.stages.remote import CLIP, LIMITS, Healthy, Uncounted, gone

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]


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
