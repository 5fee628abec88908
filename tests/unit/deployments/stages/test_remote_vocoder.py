"""The vocoder across the border, on a handle without a cluster: retries, silence, time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np
import pytest

from deployments.config.settings import Limits
from deployments.liveness.signs import with_signs
from deployments.stages.clients import (
    ATTEMPTS,
    RemoteVocoder,
)
from deployments.telemetry.transfers import Stamped, stamped
from pipeline.contracts import (
    SpeechChunk,
    SpeechRequest,
    VoicePrompt,
)
from pipeline.errors import (
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
)
from pipeline.serving.terms import Terms
from tests.fakes import FakeHandle, voice_prompt
from tests.unit.deployments.stages.remote import LIMITS, REQUEST, Healthy, Uncounted, gone

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]


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


async def test_whoever_waited_for_the_voice_too_waits_for_one_that_says_nothing() -> None:
    usual = Limits()
    vocoder = CutOffVocoder(*[[100.0]] * ATTEMPTS)
    synthesizer = RemoteVocoder(FakeHandle(vocoder), usual, Uncounted())  # type: ignore[arg-type]
    began_s = time.monotonic()
    request = replace(REQUEST, terms=Terms(due_s=began_s + 2.5))
    await asyncio.sleep(usual.silence_timeout_s + 0.25)  # a tokenizer that said nothing, another
    with pytest.raises(StageUnavailableError, match="the vocoder is silent"):
        [chunk async for chunk in synthesizer.speak(request, voice_prompt())]
    assert time.monotonic() - began_s < 10
    assert vocoder.attempts == 1


async def test_whoever_is_just_overdue_has_another_vocoder_asked() -> None:
    vocoder = Vocoder([gone()], [spoken(last=True)])
    synthesizer = RemoteVocoder(FakeHandle(vocoder), Limits(), Uncounted())  # type: ignore[arg-type]
    request = replace(REQUEST, terms=Terms(due_s=time.monotonic() - 1.0))
    assert len([chunk async for chunk in synthesizer.speak(request, voice_prompt())]) == 1


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
