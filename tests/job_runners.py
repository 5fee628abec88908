"""Runners of jobs in this process: real stores and libraries, fakes of the stages, faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cache_store.cache import VoiceCache
from cache_store.errors import StoreError
from cache_store.index import Index
from cache_store.settings import CacheSettings
from deployments.config.settings import load_settings
from deployments.jobs.documents import JobPlan, JobSegment, JobState
from deployments.jobs.runner import JobRunner
from deployments.jobs.speaking import SegmentSpeaker
from deployments.jobs.store import JobStore, Standing
from deployments.quotas.gate import QuotaGate
from deployments.speech.library import SpeechLibrary
from deployments.speech.records import SPEECH_SCHEMA
from deployments.voices.resolver import VoiceLibrary
from pipeline.contracts import Drawn, SpeechChunk, SpeechRequest, VoicePrompt
from pipeline.errors import StageUnavailableError
from tests.fakes import SAMPLES_PER_GROUP, FakeNames
from tests.http_app import LengthyEncoder
from tests.unit.cache_store.replicas import DirectTier

JOBS = {"lease_s": 0.4, "concurrency": 2, "tries": 5}


class Tally:
    """Counts what was made of which text, of all runners together."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.ended: list[str] = []

    @property
    def n_ended(self) -> int:
        return len(self.ended)


class JobSpeaker:
    """Speaks noise that follows from the seed, a group a character of the text's first five.

    die: raised by what is asked for while it is set. delay_s: before each answer's second half.
    """

    def __init__(self, names: FakeNames, tally: Tally) -> None:
        self.tally = tally
        self.delay_s = 0.0
        self.die: Exception | None = None
        self.requests: list[SpeechRequest] = []
        self._names = names

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del voice
        self.requests.append(request)
        self.tally.begun[request.text] = self.tally.begun.get(request.text, 0) + 1
        made_by = frozenset({self._names.names["vocoder"], await self._names.lm(request.variant)})
        rng = np.random.default_rng(request.sampling.seed)
        for is_last in (False, True):
            if is_last:
                await asyncio.sleep(self.delay_s)
            if self.die is not None:
                raise self.die
            samples = rng.uniform(-0.3, 0.3, 2 * SAMPLES_PER_GROUP).astype(np.float32)
            drawn = Drawn(np.zeros(20, np.int16), made_by) if is_last else None
            yield SpeechChunk(samples, is_last, drawn=drawn)
        self.tally.ended.append(request.text)


class FreeRoad:
    """Nobody else asks for anything, unless it is told so."""

    def __init__(self) -> None:
        self.is_free = True
        self.asked = 0

    async def is_quiet(self, own: int) -> bool:
        del own
        self.asked += 1
        return self.is_free


class AwayStore:
    """A blob store that can be away."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any) -> Any:
            if self.is_away:
                raise StoreError("the bucket is away")
            return method(*args)

        return call


class Replica:
    """What a Jobs replica is made of. index: that of its cluster."""

    def __init__(
        self,
        directory: Path,
        tally: Tally,
        index: Index | None = None,
        quotas: QuotaGate | None = None,
        **args: Any,
    ) -> None:
        jobs = {**JOBS, **args.pop("jobs", {})}
        self.settings = load_settings(
            {"cache": {"url": str(directory), "l2": "off"}, "jobs": jobs, **args}
        )
        names = FakeNames()
        self.speaker = JobSpeaker(names, tally)
        self.voices = VoiceLibrary(self.settings, LengthyEncoder())  # type: ignore[arg-type]
        self.speech = SpeechLibrary(self.settings, self.speaker, names)
        if index is not None:
            tier: Any = DirectTier(index, f"holder-{id(self)}")
            opened = CacheSettings(url="none", l2="off")
            self.speech._cache = VoiceCache(SPEECH_SCHEMA, [], opened, shared=tier)
        assert self.voices.shelf is not None
        self.blobs: Any = AwayStore(self.voices.shelf._blobs)
        self.voices.shelf._blobs = self.blobs
        self.store = JobStore(self.voices.shelf, self.settings.jobs.max_kept)
        self.road = FreeRoad()
        segments = SegmentSpeaker(self.settings, self.voices, self.speech, quotas)
        self.runner = JobRunner(self.settings.jobs, self.store, segments, self.road)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await asyncio.gather(self.voices.start(), self.speech.start())
        self._task = asyncio.create_task(self.runner.run())

    def kill(self) -> None:
        """It says nothing more to anybody, as a killed process; its tasks may end as they like."""
        self.blobs.is_away = True
        self.speaker.die = StageUnavailableError("killed")
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.speech.close()
        await self.voices.close()


@asynccontextmanager
async def replicas(*made: Replica) -> AsyncIterator[None]:
    """Started, and closed at the end of the block."""
    for one in made:
        await one.start()
    try:
        yield
    finally:
        for one in made:
            await one.close()


async def add_job(replica: Replica, texts: list[str], voice: str = "aria", **plan: Any) -> Standing:
    """A job of plain segments."""
    segments = [JobSegment(text=text, voice=voice) for text in texts]
    whole = JobPlan(
        created_unix_s=0,
        n_segments=len(segments),
        n_chars=sum(map(len, texts)),
        seed=7,
        response_format=plan.pop("response_format", "wav"),
        **plan,
    )
    job = await replica.store.add(replica.voices.namespace, whole, segments)
    replica.runner.poke()
    return job


async def job_done(replica: Replica, job: Standing, give_up_s: float = 60.0) -> JobState:
    """How it stands once it has ended."""
    async with asyncio.timeout(give_up_s):
        while True:
            standing = await replica.store.find(job.name)
            if standing is not None and not standing.state.is_open:
                return standing.state
            await asyncio.sleep(0.02)
