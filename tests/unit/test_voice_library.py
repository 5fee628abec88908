"""Voices through the cache: a replaced tokenizer is noticed, a dead one is not missed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from deployments import voices
from deployments.settings import load_settings
from pipeline.contracts import ReferenceClip, VoicePrompt
from pipeline.errors import StageUnavailableError
from pipeline.voice_list import VOICES_DIR, load_voices
from tests.fakes import voice_prompt
from tests.waiting import until

pytestmark = pytest.mark.unit
CLIP = load_voices(VOICES_DIR)["aria"].path.read_bytes()


class ReplaceableEncoder:
    """A tokenizer that can be redeployed with other weights, or die."""

    def __init__(self) -> None:
        self.weights = "a" * 64
        self.is_dead = False
        self.encodes = 0
        self.asked = 0

    async def fingerprint(self) -> str:
        self.asked += 1
        if self.is_dead:
            raise StageUnavailableError("dead")
        return self.weights

    async def asked_again(self) -> None:
        """Until the answer to a question asked from now on was taken in."""
        before = self.asked
        await until(lambda: self.asked >= before + 2)

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        self.encodes += 1
        mel = np.zeros((round(clip.duration_s * 50), 80), np.float32)
        return replace(
            voice_prompt(),
            prompt_mel=mel,
            duration_s=clip.duration_s,
            fingerprint=self.weights,
        )


@pytest.fixture
async def library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(voices, "ENCODER_POLL_S", 0.01)
    encoder = ReplaceableEncoder()
    settings = load_settings({"cache": {"url": "none", "l2": "off"}})
    library = voices.VoiceLibrary(settings, encoder)
    await library.start()
    following = asyncio.create_task(library.follow_encoder())
    yield library, encoder
    following.cancel()
    await library.close()


async def test_a_replaced_tokenizer_makes_cached_voices_unreachable(library):
    voice_library, encoder = library
    tiers = [(await voice_library.resolve(CLIP)).tier for _ in range(2)]
    encoder.weights = "b" * 64
    await encoder.asked_again()
    again = await voice_library.resolve(CLIP)
    assert [*tiers, again.tier] == ["miss", "l1", "miss"]
    assert again.prompt.fingerprint == "b" * 64
    assert encoder.encodes == 2


async def test_a_cached_voice_needs_no_tokenizer(library):
    voice_library, encoder = library
    await voice_library.resolve(CLIP)
    encoder.is_dead = True
    await encoder.asked_again()
    assert (await voice_library.resolve(CLIP)).tier == "l1"
