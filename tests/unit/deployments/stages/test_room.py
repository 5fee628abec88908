"""A tokenizer holds so many clips and no more, so that calls to it always find room."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from ray.serve import metrics

from deployments.config.settings import Settings
from deployments.config.stage_settings import TokenizerSettings
from deployments.scaling.policy import Work
from deployments.stages import tokenizer
from deployments.stages.tokenizer import TokenizerReplica
from pipeline.contracts import ReferenceClip, VoicePrompt
from pipeline.errors import AudioError, CapacityError, StageUnavailableError
from pipeline.stepaudio.tokenizer import voice_encoder
from tests.fakes import voice_prompt

pytestmark = pytest.mark.unit

CLIP = ReferenceClip(np.zeros(100, np.float32), 16_000, "0" * 64)


class Encoder:
    """Encodes when the gate opens."""

    fingerprint = "f" * 64

    def __init__(self, *_: object, **__: object) -> None:
        self.gate = asyncio.Event()
        self.illness: Exception | None = None
        self.error: Exception | None = None

    async def begin(self, clip: ReferenceClip) -> Coroutine[Any, Any, VoicePrompt]:
        del clip
        await self.gate.wait()
        return self._encoded()

    async def _encoded(self) -> VoicePrompt:
        if self.error is not None:
            raise self.error
        return voice_prompt()

    def check_health(self) -> None:
        if self.illness is not None:
            raise self.illness


class Metric:
    """Takes any number and keeps none."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def inc(self, *_: object, **__: object) -> None:
        pass

    set = observe = inc


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> TokenizerReplica:
    monkeypatch.setattr(voice_encoder, "StepVoiceEncoder", Encoder)
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(metrics, kind, Metric)
    monkeypatch.setattr(tokenizer, "adopt_serve_logging", lambda: None)
    monkeypatch.setattr(tokenizer, "apply_device_limits", lambda *_, **__: None)
    monkeypatch.setattr(tokenizer, "encode_once", lambda _: None)
    monkeypatch.setattr(tokenizer, "warm_up", lambda _: None)
    return TokenizerReplica(Settings(tokenizer=TokenizerSettings(max_clips=2)))


async def test_more_clips_than_fit_are_refused_and_calls_get_through(replica) -> None:
    held = [asyncio.create_task(replica.encode(CLIP)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(CapacityError, match="at work on 2 requests, allowed: 2"):
        await replica.encode(CLIP)
    assert (await replica.status())["encodes"] == 2
    assert await replica.fingerprint() == "f" * 64
    replica._encoder.gate.set()
    assert [sent.value.n_groups for sent in await asyncio.gather(*held)] == [4, 4]
    await replica.encode(CLIP)


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_whoever_leaves_makes_room(replica, how: str) -> None:
    held = [asyncio.create_task(replica.encode(CLIP)) for _ in range(2)]
    await asyncio.sleep(0)
    if how == "cancelled":
        for task in held:
            task.cancel()
    else:
        replica._encoder.error = AudioError("not finite")
        replica._encoder.gate.set()
    ended = await asyncio.gather(*held, return_exceptions=True)
    assert all(isinstance(one, AudioError | asyncio.CancelledError) for one in ended)
    replica._encoder.error = None
    replica._encoder.gate.set()
    await asyncio.gather(*(replica.encode(CLIP) for _ in range(2)))


async def test_serve_learns_of_an_encoder_that_is_ill(replica) -> None:
    await replica.check_health()
    replica._encoder.illness = StageUnavailableError("the tokenizer has lost its device")
    with pytest.raises(StageUnavailableError):
        await replica.check_health()


async def test_it_tells_of_clips_and_how_long_they_wait(replica: TokenizerReplica) -> None:
    assert replica.work() == Work(0, 2)
    held = [asyncio.create_task(replica.encode(CLIP)) for _ in range(2)]
    await asyncio.sleep(0)
    assert replica.in_work == 2
    replica._encoder.gate.set()  # type: ignore[attr-defined]
    await asyncio.gather(*held)
    assert replica.in_work == 0
    assert replica.work().busy > 0, "what was at work between two looks is seen"
    assert replica.work() == Work(0, 2)
