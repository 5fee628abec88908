"""The one list of stages; app, lint, readiness and metrics read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from deployments.config.settings import Settings
from deployments.config.stage_settings import StageResources
from pipeline.contracts import BASE_VARIANT

CONTROL_WORK = 4  # calls that say something to a stage which takes no requests


class Kind(StrEnum):
    """The kind of a stage; the value of the metrics' label `stage`."""

    ROUTER = "router"
    TOKENIZER = "tokenizer"
    LLM = "llm"
    VOCODER = "vocoder"
    ASR = "asr"
    JOBS = "jobs"


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One deployment."""

    name: str
    """Name of its deployment."""
    kind: Kind
    work: int
    """Most requests in one replica, waiting ones included."""
    section: str = ""
    """Section of `args` with its resources; empty where it computes nothing."""
    resources: StageResources | None = None
    keeps_voices: bool = False
    """Its replicas keep data of voices in memory, and have a `forget`."""
    is_spared: bool = False
    """After its first answer the service stays ready without it."""
    sleeps: bool = False
    """It may have no replica while nobody needs it."""

    @property
    def key(self) -> str:
        """Its name in /readyz and the log."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """Every stage; iterating follows a request."""

    router: Stage
    tokenizer: Stage
    llms: Mapping[str, Stage]
    """By the variant that requests name."""
    vocoder: Stage
    jobs: Stage
    asr: Stage | None = None
    """The recogniser, where it is deployed."""

    @classmethod
    def of(cls, settings: Settings) -> Stages:
        """The stages of these settings."""
        tokenizer, vocoder = settings.tokenizer, settings.vocoder
        variants = (BASE_VARIANT, *settings.llm_variants)
        held = settings.limits.max_requests + settings.sessions.max_sessions
        return cls(
            Stage("Router", Kind.ROUTER, held),
            Stage(
                "Tokenizer",
                Kind.TOKENIZER,
                tokenizer.max_clips,
                "tokenizer",
                tokenizer,
                is_spared=True,  # cached voices do not need it
                sleeps=settings.scaling.tokenizer.sleeps,
            ),
            {variant: _llm(settings, variant) for variant in variants},
            Stage(
                "Vocoder",
                Kind.VOCODER,
                vocoder.max_streams + vocoder.queue_size,
                "vocoder",
                vocoder,
                keeps_voices=True,
            ),
            Stage("Jobs", Kind.JOBS, CONTROL_WORK, keeps_voices=True, is_spared=True),
            _asr(settings),
        )

    def __iter__(self) -> Iterator[Stage]:
        yield from (self.router, self.tokenizer, *self.llms.values(), self.vocoder, self.jobs)
        if self.asr is not None:
            yield self.asr


def _asr(settings: Settings) -> Stage | None:
    asr = settings.asr
    if not asr.enabled:
        return None
    return Stage(
        "ASR",
        Kind.ASR,
        asr.max_clips,
        "asr",
        asr,
        is_spared=True,  # requests that say what is said in their clip do not need it
        sleeps=settings.scaling.asr.sleeps,
    )


def _llm(settings: Settings, variant: str) -> Stage:
    is_base = variant == BASE_VARIANT
    _, llm = settings.llm_of(variant)
    return Stage(
        "LLM" if is_base else f"LLM-{variant}",
        Kind.LLM,
        llm.slots + llm.queue_size,
        "llm" if is_base else f"llm_variants.{variant}",
        llm,
        keeps_voices=True,
    )
