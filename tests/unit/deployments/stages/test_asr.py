"""The recogniser's replica, and its client across the border: room, turns, lost replicas."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import ray.exceptions
from ray.serve import metrics

from deployments.config.asr_settings import AsrSettings
from deployments.config.settings import Settings
from deployments.stages import asr
from deployments.stages.asr import AsrReplica
from deployments.stages.clients import ATTEMPTS, RemoteTranscriber
from pipeline.contracts import ReferenceClip
from pipeline.errors import (
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
)
from pipeline.stepaudio.asr import recogniser
from tests.fakes import FakeHandle
from tests.unit.deployments.stages.test_room import Metric

pytestmark = pytest.mark.unit
CLIP = ReferenceClip(np.zeros(100, np.float32), 16_000, "0" * 64)


class Recogniser:
    """Hears when the gate opens; counts how many clips it hears at a time."""

    fingerprint = "e" * 64

    def __init__(self, *made_of: object) -> None:
        self.made_of = made_of
        self.gate = asyncio.Event()
        self.illness: Exception | None = None
        self.at_once = self.most_at_once = 0

    async def transcribe(self, clip: ReferenceClip) -> str:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await self.gate.wait()
        self.at_once -= 1
        return f"words of {clip.digest[:4]}"

    def check_health(self) -> None:
        if self.illness is not None:
            raise self.illness


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> AsrReplica:
    monkeypatch.setattr(recogniser, "Recogniser", Recogniser)
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(metrics, kind, Metric)
    for name in ("adopt_serve_logging", "apply_device_limits", "recognise_once", "warm_up"):
        monkeypatch.setattr(asr, name, lambda *_, **__: None)
    for name in ("config.yaml", "model.pt"):
        (tmp_path / name).touch()
    return AsrReplica(Settings(asr=AsrSettings(enabled=True, model=str(tmp_path), max_clips=2)))


async def test_clips_are_heard_in_turn_and_no_more_than_fit(replica: AsrReplica) -> None:
    held = [asyncio.create_task(replica.transcribe(CLIP)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(CapacityError, match="the recogniser is at work on 2 requests, allowed: 2"):
        await replica.transcribe(CLIP)
    assert (await replica.status()) == {"clips": 2, "fingerprint": "e" * 64}
    assert await replica.fingerprint() == "e" * 64
    replica._recogniser.gate.set()  # type: ignore[attr-defined]
    assert await asyncio.gather(*held) == ["words of 0000"] * 2
    assert replica._recogniser.most_at_once == 1  # type: ignore[attr-defined]


async def test_serve_learns_of_a_recogniser_that_is_ill(replica: AsrReplica) -> None:
    await replica.check_health()
    replica._recogniser.illness = StageUnavailableError("lost")  # type: ignore[attr-defined]
    with pytest.raises(StageUnavailableError):
        await replica.check_health()


class Remote:
    """Fails as often as told, then hears; or says nothing."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.left, self.error, self.calls = failures, error, 0

    async def transcribe(self, clip: ReferenceClip) -> str:
        del clip
        self.calls += 1
        if self.calls <= self.left:
            raise self.error or ray.exceptions.ActorDiedError()
        return "words"

    async def fingerprint(self) -> str:
        await asyncio.sleep(60)
        return "never"


def client(remote: Remote) -> RemoteTranscriber:
    return RemoteTranscriber(FakeHandle(remote), 5.0)  # type: ignore[arg-type]


@pytest.mark.usefixtures("virtual_time")
class TestAcrossTheBorder:
    async def test_a_lost_replica_is_replaced(self) -> None:
        remote = Remote(ATTEMPTS - 1)
        assert await client(remote).transcribe(CLIP) == "words"
        assert remote.calls == ATTEMPTS

    async def test_in_the_end_there_is_none(self) -> None:
        with pytest.raises(StageUnavailableError, match="the recogniser's replica went away"):
            await client(Remote(99)).transcribe(CLIP)

    async def test_what_it_raises_is_not_asked_for_again(self) -> None:
        remote = Remote(99, IndexError("at /models"))
        with pytest.raises(StageError, match=r"^the recogniser failed: IndexError") as caught:
            await client(remote).transcribe(CLIP)
        assert caught.value.message == "the recogniser failed"
        assert remote.calls == 1

    async def test_silence_is_a_timeout(self) -> None:
        with pytest.raises(StageTimeoutError, match="the recogniser did not answer in time"):
            await client(Remote()).fingerprint()
