"""The stages of a service, listed once: app, lint, readiness and metrics read them here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from deployments.config.settings import Settings, StageResources
from pipeline.contracts import BASE_VARIANT


class Kind(StrEnum):
    """What a stage does; the value of the label `stage` of metrics."""

    ROUTER = "router"
    TOKENIZER = "tokenizer"
    LLM = "llm"
    VOCODER = "vocoder"


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One deployment."""

    name: str
    """Of its deployment."""
    kind: Kind
    work: int
    """Requests that one replica takes at most, those that wait in it included."""
    section: str = ""
    """Where `args` describe its share; empty for the router, which has none."""
    resources: StageResources | None = None
    keeps_voices: bool = False
    """Its replicas keep something of a voice in memory, and have a `forget`."""
    is_spared: bool = False
    """Once it has answered, the service is ready without it."""

    @property
    def key(self) -> str:
        """What /readyz and the log call it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """Every stage; iterating follows a request. llms: by the variant that requests name."""

    router: Stage
    tokenizer: Stage
    llms: Mapping[str, Stage]
    vocoder: Stage

    @classmethod
    def of(cls, settings: Settings) -> Stages:
        """The stages that these settings describe."""
        tokenizer, vocoder = settings.tokenizer, settings.vocoder
        variants = (BASE_VARIANT, *settings.llm_variants)
        return cls(
            Stage("Router", Kind.ROUTER, settings.limits.max_requests),
            Stage(
                "Tokenizer",
                Kind.TOKENIZER,
                tokenizer.max_clips,
                "tokenizer",
                tokenizer,
                is_spared=True,  # cached voices need none
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
        )

    def __iter__(self) -> Iterator[Stage]:
        yield from (self.router, self.tokenizer, *self.llms.values(), self.vocoder)


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
