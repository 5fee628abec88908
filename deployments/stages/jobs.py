"""The jobs replica: runs jobs behind all other work. Hosts no model; its work is in the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray.serve.handle import DeploymentHandle

from cache_store.background import spawn
from deployments.background import watched
from deployments.config.scaling_settings import StageScaling
from deployments.config.settings import Limits, Settings
from deployments.config.stages import Kind
from deployments.jobs.runner import JobRunner
from deployments.jobs.speaking import SegmentSpeaker
from deployments.jobs.store import JobStore
from deployments.jobs.webhooks import Webhooks
from deployments.marks.signing import Signer
from deployments.quotas.cluster import open_gate
from deployments.scaling.policy import Work
from deployments.scaling.replica import ScaledReplica
from deployments.speech.library import SpeechLibrary
from deployments.stages.clients import (
    RemoteNames,
    RemoteStatus,
    RemoteTokenizer,
    RemoteVocoder,
)
from deployments.stages.replies import stage_errors
from deployments.telemetry.logs import adopt_serve_logging
from deployments.telemetry.quotas import QuotaRefusals
from deployments.telemetry.tracing.tracer import Tracer
from deployments.telemetry.transfers import Transfers
from deployments.voices.resolver import VoiceLibrary
from pipeline.contracts import SpeechChunk, SpeechRequest, Stream, VoicePrompt
from pipeline.errors import TimbreError
from pipeline.serving.terms import Service
from pipeline.synthesis import Synthesizer

logger = logging.getLogger(__name__)

MEMORY_BYTES = 32 * 2**20  # of voices, and of speech: segments are seldom asked for twice
TELL_S = 2.0
BEHIND_TIMES = 4  # as long as usual: a chunk of 64 rows is 110 tokens


class JobsReplica(ScaledReplica):
    """Runs jobs from its beginning on. Make it within a running event loop."""

    def __init__(
        self,
        settings: Settings,
        tokenizer: DeploymentHandle,
        llms: Mapping[str, DeploymentHandle],
        vocoder: DeploymentHandle,
    ) -> None:
        adopt_serve_logging()
        tracer = Tracer.of(settings.telemetry, "jobs")
        settings = _with_little_memory(settings)
        transfers = Transfers()
        self._voices = VoiceLibrary(
            settings,
            RemoteTokenizer(
                tokenizer, settings.limits, transfers, sleeps=settings.scaling.tokenizer.sleeps
            ),
        )
        limits = _patient(settings.limits) if settings.jobs.steps_aside else settings.limits
        synthesizer: Synthesizer = RemoteVocoder(vocoder, limits, transfers)
        synthesizer = Behind(synthesizer, steps_aside=settings.jobs.steps_aside)
        self._speech = SpeechLibrary(settings, synthesizer, RemoteNames(vocoder, llms))
        self._quotas = open_gate(settings.quotas, settings.cache.l2_name, QuotaRefusals())
        self._speaker = SegmentSpeaker(settings, self._voices, self._speech, self._quotas, tracer)
        self._runner: JobRunner | None = None
        self._webhooks: Webhooks | None = None
        if self._voices.shelf is not None:
            store = JobStore(self._voices.shelf, settings.jobs.max_kept)
            traffic = StageTraffic(settings, llms, vocoder)
            signer = Signer.of(settings.marks)
            self._runner = JobRunner(settings.jobs, store, self._speaker, traffic, signer)
            self._webhooks = Webhooks(settings.jobs, store)
        self._concurrency = settings.jobs.concurrency
        self.begin_telling("jobs", StageScaling(), settings.memory)
        self._task = spawn("running jobs", self._run())

    async def _run(self) -> None:
        await asyncio.gather(self._voices.start(), self._speech.start())
        loops = [
            watched("following the tokenizer", self._voices.follow_encoder),
            watched("following the models", self._speech.follow_models),
            watched("keeping the quotas", self._quotas.run),
        ]
        if self._runner is not None:
            loops.append(watched("looking for jobs", self._runner.run))
            loops.append(watched("removing old jobs", self._runner.sweep))
        if self._webhooks is not None:
            loops.append(watched("telling of jobs that ended", self._webhooks.run))
        await asyncio.wait(loops)

    async def poke(self, job: str) -> None:
        """Called on every replica when a job was made or changed."""
        if self._runner is not None:
            self._runner.poke(job)

    async def forget(self, clip_digest: str, namespace: str | None = None) -> None:
        """Called on every replica when a clip is removed."""
        self._speaker.forget(namespace or self._voices.namespace, clip_digest)
        await asyncio.gather(
            self._voices.forget(clip_digest, namespace), self._speech.forget(clip_digest, namespace)
        )

    @property
    def in_work(self) -> int:
        """Segments in work."""
        return 0 if self._runner is None else self._runner.in_work

    def work(self) -> Work:
        """See ScaledReplica."""
        return Work(self.in_work, self._concurrency)

    def check_parts(self) -> None:
        """Nothing that it needs can be gone: its loops are begun again."""

    async def status(self) -> dict[str, Any]:
        """Gauges of this replica."""
        if self._runner is None:
            return {"jobs_running": 0, "segments_in_work": 0}
        return {
            "jobs_running": self._runner.running,
            "segments_in_work": self._runner.in_work,
        }


class Behind:
    """A synthesizer whose requests hold nobody else's up.

    steps_aside: in the language model, too.
    """

    def __init__(self, synthesizer: Synthesizer, *, steps_aside: bool) -> None:
        self._synthesizer, self._steps_aside = synthesizer, steps_aside

    def speak(self, request: SpeechRequest, voice: VoicePrompt) -> Stream[SpeechChunk]:
        """See Synthesizer."""
        terms = replace(request.terms, service=Service.BATCH, due_s=None)
        behind = replace(request, is_behind=self._steps_aside, terms=terms)
        return self._synthesizer.speak(behind, voice)


class StageTraffic:
    """See deployments.jobs.traffic.Traffic: what the stages that speak say of themselves."""

    def __init__(
        self,
        settings: Settings,
        llms: Mapping[str, DeploymentHandle],
        vocoder: DeploymentHandle,
    ) -> None:
        self._llms = [RemoteStatus("llm", llm) for llm in llms.values()]
        self._vocoder = RemoteStatus("vocoder", vocoder)
        self._streams = settings.vocoder.max_streams
        self._share = settings.jobs.others_share

    async def is_quiet(self, own: int) -> bool:
        """Nobody waits, and others use no more than their share of the vocoder's streams."""
        try:
            vocoders, *llms = await asyncio.gather(
                self._vocoder.replicas(), *(llm.replicas() for llm in self._llms)
            )
        except TimbreError as error:
            logger.info("a job waits until the stages say how busy they are: %s", error)
            return False
        if any(llm["queued"] for replicas in llms for llm in replicas):
            return False
        if any(vocoder["waiting"] for vocoder in vocoders):
            return False
        # Other replicas' segments are nobody's, either; a vocoder before an update does not tell.
        behind = sum(vocoder.get("streams_behind", 0) for vocoder in vocoders)
        others = sum(vocoder["streams_active"] for vocoder in vocoders) - max(own, behind)
        return others <= self._share * self._streams * len(vocoders)


class RunnersTold:
    """Tells every jobs replica that a job was made or changed.

    Without word they look by themselves.
    """

    def __init__(self, jobs: DeploymentHandle) -> None:
        self._jobs = jobs

    async def tell(self, job: str) -> None:
        """Does not wait. See deployments.jobs.library.Tell."""
        spawn("telling of a job", self._tell(job))

    async def _tell(self, job: str) -> None:
        try:
            with stage_errors(Kind.JOBS):
                await self._jobs.broadcast("poke", job).results_async(timeout_s=TELL_S)
        except TimbreError as error:
            logger.info("nobody who runs jobs was told of %s: %s", job, error)


def _patient(limits: Limits) -> Limits:
    """Of waits for speech that steps aside: two tokens a second, while others draw."""
    return limits.model_copy(
        update={
            "first_audio_timeout_s": BEHIND_TIMES * limits.first_audio_timeout_s,
            "chunk_timeout_s": BEHIND_TIMES * limits.chunk_timeout_s,
        }
    )


def _with_little_memory(settings: Settings) -> Settings:
    cache, speech = settings.cache, settings.speech_cache
    return settings.model_copy(
        update={
            "cache": cache.model_copy(update={"l1_bytes": min(cache.l1_bytes, MEMORY_BYTES)}),
            "speech_cache": speech.model_copy(
                update={"l1_bytes": min(speech.l1_bytes, MEMORY_BYTES)}
            ),
        }
    )
