"""A workload's document: who asks for what, when, and what is expected of the answers.

Knows nothing of clients, runs or results. Documents are `workloads/*.yaml`; `plan` draws from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from deployments.config.section import Positive, Seconds, Strict
from pipeline.errors import ConfigError

DIRECTORY = Path(__file__).parent / "workloads"

Share = Annotated[float, Field(ge=0, le=1)]
Load = Annotated[float, Field(gt=0, le=20)]
Dialect = Literal["openai", "predecessor", "elevenlabs", "fish", "websocket"]
NAMED_VOICES_ONLY: frozenset[Dialect] = frozenset({"elevenlabs"})
NO_TELEPHONE: frozenset[Dialect] = frozenset({"fish"})


class Phase(Strict):
    """A part of an open loop with one rate."""

    name: str
    load: Load
    """Calls a second over those of a saturated service (`--saturation`)."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of the run's duration; left out in all phases, each has the same."""


class Poisson(Strict):
    """Calls come at random, whatever becomes of those before them."""

    kind: Literal["poisson"]
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    duration_s: Seconds | None = None
    calls: Positive | None = None
    """Instead of a duration: as long as it takes until so many calls came, on average."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.duration_s is None) == (self.calls is None):
            raise ValueError("name either duration_s or calls")
        if not math.isclose(sum(self.shares), 1.0, abs_tol=1e-6):
            raise ValueError("the phases' shares must sum to 1")
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """Of every phase."""
        return tuple(phase.share or 1 / len(self.phases) for phase in self.phases)


class Recorded(Strict):
    """Calls come when they came in a recording."""

    kind: Literal["recorded"]
    file: str
    """JSON Lines beside the document, each with `at_s`; as `--calls` writes them."""


class Closed(Strict):
    """A closed loop: every client sends its next call when it has the answer to the last."""

    kind: Literal["closed"]
    clients: Positive
    calls: Positive


Arrivals = Annotated[Poisson | Recorded | Closed, Field(discriminator="kind")]


class Voices(Strict):
    """Who is to be heard."""

    kind: Literal["listed", "clips"] = "listed"
    """listed: the service's own names. clips: recordings sent along, each with its words."""
    count: Annotated[int, Field(gt=0, le=1_000)] = 8
    zipf: Annotated[float, Field(ge=0, le=4)] = 1.0
    """The voice of rank r is asked for in proportion to r to the power of minus this."""
    fresh: Share = 0.0
    """Calls with a clip that nobody sent before."""
    order: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Instead of chance: ranks, one call each, from the beginning again at the end."""
    are_known: bool = True
    """Encoded before the run begins."""


class Length(Strict):
    """Texts of some lengths."""

    chars: tuple[Positive, Positive]
    share: Share


class Repeats(Strict):
    """Calls that ask for what was spoken before, with its seed."""

    share: Share = 0.0
    phrases: Positive = 20
    zipf: Annotated[float, Field(ge=0, le=4)] = 1.0


class Readers(Strict):
    """Listeners who take less than comes."""

    slow: Share = 0.0
    rate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Seconds of audio that a slow one reads a second."""


class Cancels(Strict):
    """Callers who hang up."""

    share: Share = 0.0
    after_s: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (0.1, 3.0)
    """From the call on; a moment between the two."""


class Objective(Strict):
    """What makes an answer good."""

    first_audio_s: Seconds = 1.0
    rtf: Annotated[float, Field(gt=0)] | None = None
    share: Share = 0.95
    """Of all calls that nobody cancelled: for the workload to be met."""


class Job(Strict):
    """A job of many segments that runs during one phase."""

    segments: Positive
    phase: str


class Workload(Strict):
    """One named load."""

    name: str
    about: str
    """One sentence."""
    seed: int = 1
    arrivals: Arrivals
    voices: Voices = Voices()
    texts: Annotated[tuple[Length, ...], Field(min_length=1)]
    dialects: Mapping[Dialect, Share]
    format: Literal["pcm", "pcmu"] = "pcm"
    """pcm: 24 kHz, 16 bits. pcmu: as telephones have it, 8 kHz."""
    repeats: Repeats = Repeats()
    readers: Readers = Readers()
    cancels: Cancels = Cancels()
    objective: Objective = Objective()
    job: Job | None = None
    timeout_s: Seconds = 60.0
    """A call without its last byte by then has failed."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for what, shares in (
            ("texts", [one.share for one in self.texts]),
            ("dialects", list(self.dialects.values())),
        ):
            if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
                raise ValueError(f"the shares of {what} must sum to 1")
        self._dialects_can()
        if self.job is not None and self.job.phase not in self.phase_names:
            raise ValueError(f"job.phase {self.job.phase!r} is none of the phases")
        return self

    def _dialects_can(self) -> None:
        sends_clips = self.voices.kind == "clips" or self.voices.fresh > 0
        if sends_clips and (asked := NAMED_VOICES_ONLY & set(self.dialects)):
            raise ValueError(f"{', '.join(sorted(asked))} takes no clips, only listed voices")
        if self.format == "pcmu" and (asked := NO_TELEPHONE & set(self.dialects)):
            raise ValueError(f"{', '.join(sorted(asked))} has no pcmu")

    @property
    def phase_names(self) -> tuple[str, ...]:
        if isinstance(self.arrivals, Poisson):
            return tuple(phase.name for phase in self.arrivals.phases)
        return ("all",)

    @property
    def brings_voices(self) -> bool:
        """Whether calls bring clips, so that what the cache of voices spares shows."""
        return self.voices.kind == "clips"

    def scaled(self, scale: float, duration_s: float | None) -> Workload:
        """`scale` of the work; an open loop of that duration. Rates stay as they are.

        Raises ConfigError for the duration of what has none.
        """
        changed: dict[str, Any] = {}
        arrivals = self.arrivals
        if isinstance(arrivals, Poisson):
            if duration_s is not None:
                how = {"duration_s": duration_s, "calls": None}
            elif arrivals.calls is not None:
                how = {"calls": max(1, round(arrivals.calls * scale))}
            else:
                how = {"duration_s": (arrivals.duration_s or 0.0) * scale}
            changed["arrivals"] = arrivals.model_copy(update=how)
        elif duration_s is not None:
            raise ConfigError(f"{self.name} has no duration; shrink it with --scale")
        elif isinstance(arrivals, Closed):
            calls = max(len(self.voices.order) or 1, round(arrivals.calls * scale))
            changed["arrivals"] = arrivals.model_copy(update={"calls": calls})
        return self.model_copy(update=changed)


def load_workload(path: Path) -> Workload:
    """One document. Raises ConfigError with the file and what is wrong with it."""
    try:
        return Workload.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path.name}: {error}") from error


@cache
def workloads() -> Mapping[str, Workload]:
    """All of them, by name."""
    loaded = [load_workload(path) for path in sorted(DIRECTORY.glob("*.yaml"))]
    return {one.name: one for one in loaded}
