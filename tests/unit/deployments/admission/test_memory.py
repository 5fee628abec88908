"""A router repeats a refusal as long as it holds, to the same caller, and lets others ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np
import pytest

from deployments.admission.memory import RememberedRefusals
from pipeline.contracts import SpeechChunk, SpeechRequest, VoicePrompt
from pipeline.errors import CapacityError, OverShareError
from pipeline.serving.terms import Service, Terms
from tests.fakes import voice_prompt

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]

REQUEST = SpeechRequest("Hello.", "Hi.", terms=Terms(tenant="a"))


class Vocoder:
    """Refuses as it is told to, and counts who asks."""

    def __init__(self, error: CapacityError | None) -> None:
        self.error, self.asked = error, 0

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del request, voice
        self.asked += 1
        if self.error is not None:
            raise self.error
        yield SpeechChunk(np.zeros(10, np.float32), last=True)


class Router:
    def __init__(self, error: CapacityError | None) -> None:
        self.vocoder = Vocoder(error)
        self.repeated: list[tuple[Service, str]] = []
        self._speech = RememberedRefusals(
            self.vocoder, lambda service, reason: self.repeated.append((service, reason))
        )

    async def ask(self, request: SpeechRequest = REQUEST) -> CapacityError | None:
        try:
            async for _ in self._speech.speak(request, voice_prompt()):
                pass
        except CapacityError as error:
            return error
        return None


async def test_what_holds_is_not_asked_again_until_it_does_not() -> None:
    router = Router(OverShareError("busy", wait_s=2.0, retry_after_s=3.0, holds_s=0.4))
    await router.ask()
    await asyncio.sleep(0.3)
    again = await router.ask()
    assert router.vocoder.asked == 1
    assert isinstance(again, OverShareError)
    assert again.wait_s == pytest.approx(1.7)
    assert again.retry_after_s == 3.0
    assert router.repeated == [(Service.STREAM, "told")]
    await asyncio.sleep(0.11)  # and not 0.1: the sum of two sleeps may fall short of 0.4
    router.vocoder.error = None
    assert await router.ask() is None
    assert await router.ask() is None
    assert router.vocoder.asked == 3


async def test_it_holds_for_the_same_tenant_and_service_alone() -> None:
    router = Router(CapacityError("busy", wait_s=2.0, retry_after_s=3.0, holds_s=0.4))
    await router.ask()
    router.vocoder.error = None
    for terms in (
        Terms(tenant="b"),
        Terms(Service.WHOLE, "a"),
        Terms(Service.BATCH, "a"),
        Terms(tenant="a", is_begun=True),
    ):
        assert await router.ask(replace(REQUEST, terms=terms)) is None
    assert await router.ask() is not None


async def test_what_does_not_say_that_it_holds_is_asked_again() -> None:
    router = Router(CapacityError("busy"))
    for _ in range(2):
        assert await router.ask() is router.vocoder.error
    assert router.vocoder.asked == 2
