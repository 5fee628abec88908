"""The jobs replica: made of handles alone, it runs what it finds, behind all other work."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from deployments.config.settings import load_settings
from deployments.jobs.documents import JobPlan, JobSegment
from deployments.jobs.store import JobStore
from deployments.stages.jobs import JobsReplica, RunnersTold, StageTraffic
from deployments.telemetry.transfers import Stamped, stamped
from deployments.voices.shelf import Shelf
from pipeline.contracts import ReferenceClip, SpeechChunk, SpeechRequest, VocoderName, VoicePrompt
from pipeline.serving.terms import Service
from tests.fakes import FakeHandle, FakeNames, TellingSpeaker
from tests.http_app import LengthyEncoder
from tests.waiting import until

pytestmark = pytest.mark.unit


class Tokenizer(LengthyEncoder):
    async def encode_aloud(self, clip: ReferenceClip) -> AsyncGenerator[Stamped[VoicePrompt]]:
        yield stamped(await self.encode(clip))


class Vocoder:
    """streams: of others. waiting: requests. behind: streams that step aside, None from before."""

    def __init__(self, names: FakeNames) -> None:
        self.speaker = TellingSpeaker(names)
        self.streams = self.waiting = 0
        self.behind: int | None = None
        self._names = names

    async def name(self) -> VocoderName:
        return await self._names.vocoder()

    async def speak_aloud(
        self, request: SpeechRequest, sent: Stamped[VoicePrompt]
    ) -> AsyncGenerator[Stamped[SpeechChunk]]:
        async for chunk in self.speaker.speak(request, sent.value):
            yield stamped(chunk)

    async def status(self) -> dict[str, int]:
        active = self.streams + self.speaker.open_streams
        told = {} if self.behind is None else {"streams_behind": self.behind}
        return {"streams_active": active, "waiting": self.waiting, **told}


class LLM:
    def __init__(self, names: FakeNames) -> None:
        self.queued = 0
        self._names = names

    async def fingerprint(self) -> str:
        return await self._names.lm("base")

    async def status(self) -> dict[str, int]:
        return {"queued": self.queued}


@pytest.fixture
def stages() -> tuple[Vocoder, LLM]:
    names = FakeNames()
    return Vocoder(names), LLM(names)


def plan(count: int) -> JobPlan:
    return JobPlan(created_unix_s=0, n_segments=count, n_chars=4, seed=1, response_format="mp3")


@pytest.mark.parametrize("steps_aside", [True, False])
async def test_it_runs_jobs_that_it_finds(
    tmp_path: Path, stages: tuple[Vocoder, LLM], steps_aside: bool
):
    settings = load_settings(
        {"cache": {"url": str(tmp_path), "l2": "off"}, "jobs": {"steps_aside": steps_aside}}
    )
    vocoder, llm = stages
    shelf = Shelf.open(settings.cache)
    assert shelf is not None
    store = JobStore(shelf, 10)
    replica: Any = JobsReplica(
        settings,
        FakeHandle(Tokenizer()),  # type: ignore[arg-type]
        {"base": FakeHandle(llm)},  # type: ignore[dict-item]
        FakeHandle(vocoder),  # type: ignore[arg-type]
    )
    told = RunnersTold(FakeHandle(replica))  # type: ignore[arg-type]
    job = await store.add("shared", plan(1), [JobSegment(text="One.", voice="aria")])
    await told.tell(job.name.id)

    def is_done() -> bool:
        return bool([*tmp_path.glob("jobs/v1/shared/results/*/*/note.json")])

    await until(is_done)
    assert [request.text for request in vocoder.speaker.requests] == ["One."]
    assert vocoder.speaker.requests[0].may_reseed
    assert vocoder.speaker.requests[0].is_behind is steps_aside
    terms = vocoder.speaker.requests[0].terms
    assert (terms.service, terms.tenant, terms.due_s) == (Service.BATCH, "shared", None)
    assert (await replica.status())["segments_in_work"] == 0
    await replica.forget("ab" * 32, "acme")
    replica._task.cancel()


@pytest.mark.parametrize(
    ("share", "streams", "own", "waiting", "queued", "is_quiet"),
    [
        (0.0, 0, 0, 0, 0, True),
        (0.0, 2, 2, 0, 0, True),
        (0.0, 3, 2, 0, 0, False),
        (0.5, 4, 0, 0, 0, True),
        (0.5, 5, 0, 0, 0, False),
        (1.0, 0, 0, 1, 0, False),
        (1.0, 0, 0, 0, 1, False),
    ],
)
async def test_others_go_first(
    stages: tuple[Vocoder, LLM],
    share: float,
    streams: int,
    own: int,
    waiting: int,
    queued: int,
    is_quiet: bool,
):
    settings = load_settings({"jobs": {"others_share": share}, "vocoder": {"max_streams": 8}})
    vocoder, llm = stages
    vocoder.streams, vocoder.waiting, llm.queued = streams, waiting, queued
    llms: Any = {"base": FakeHandle(llm)}
    traffic = StageTraffic(settings, llms, FakeHandle(vocoder))  # type: ignore[arg-type]
    assert await traffic.is_quiet(own) is is_quiet


async def test_stages_that_do_not_answer_are_not_quiet(stages: tuple[Vocoder, LLM]):
    llms: Any = {"base": FakeHandle(stages[1])}
    traffic = StageTraffic(load_settings({}), llms, FakeHandle())  # type: ignore[arg-type]
    assert not await traffic.is_quiet(0)


@pytest.mark.parametrize(
    ("streams", "own", "behind", "is_quiet"),
    [
        (1, 0, 1, True),
        (2, 0, 1, False),
        (3, 1, 3, True),
        (2, 2, 0, True),
        (2, 2, None, True),
        (1, 0, None, False),
    ],
)
async def test_what_other_replicas_speak_behind_all_goes_not_first(
    stages: tuple[Vocoder, LLM], streams: int, own: int, behind: int | None, is_quiet: bool
):
    vocoder, llm = stages
    vocoder.streams, vocoder.behind = streams, behind
    llms: Any = {"base": FakeHandle(llm)}
    settings = load_settings({"jobs": {"others_share": 0.0}})
    traffic = StageTraffic(settings, llms, FakeHandle(vocoder))  # type: ignore[arg-type]
    assert await traffic.is_quiet(own) is is_quiet
