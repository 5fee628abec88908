"""What is written of jobs: the plan, how it stands, who runs it, and of every segment what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from deployments.edits.documents import EditStep, WrittenReading
from deployments.speech.seeds import derived_seed
from deployments.voices.documents import Written
from pipeline.contracts import BASE_VARIANT, Mode, Verdict


class Cue(Written):
    """The time of a subtitle."""

    begin_s: float
    end_s: float


class JobSegment(Written):
    """One answer of the model. Never changes."""

    text: str
    voice: str
    """Exactly which: a built-in voice, or the version of an uploaded one."""
    edits: tuple[EditStep, ...] = ()
    """What is done to what was spoken, in turn."""
    seed: int | None = None
    """None: one that follows from the job's."""
    speed: float = 1.0
    pause_s: float = 0.0
    """Silence behind it."""
    cue: Cue | None = None
    """When it is to be heard, of subtitles."""

    @property
    def texts(self) -> Sequence[str]:
        """All that is read of it: what it says, and what its edits make of that."""
        return (self.text, *(step.text for step in self.edits if step.text is not None))


class JobPlan(Written):
    """All that a job is but its segments, which lie beside it. Never changes."""

    created_unix_s: int
    n_segments: int
    n_chars: int
    page_begins: tuple[int, ...] = ()
    """First segment of each page that they lie in."""
    seed: int
    """Seeds of segments that have none follow from it."""
    response_format: str
    sample_rate_hz: int | None = None
    target_lufs: float | None = None
    """Of the one file; None leaves levels as they are."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    variant: str = BASE_VARIANT
    is_marked: bool = True
    """Its audio is marked where the service marks audio."""
    webhook: str | None = None
    label: str | None = None
    """The caller's own name for it."""
    readings: dict[str, WrittenReading] = Field(default_factory=dict[str, WrittenReading])
    """How texts are read, by voice, as was asked for and kept when it was made; others as usual."""

    def steps(self, segment: JobSegment, number: int, again: Again) -> tuple[EditStep, ...]:
        """A segment's steps, its speaking first. number: counted from 0."""
        seed = again.seed
        if seed is None:
            given = segment.seed if not again.revision else None
            seed = segment_seed(self.seed, number, again.revision) if given is None else given
        shared = {
            "seed": seed,
            "may_reseed": True,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "variant": self.variant,
        }
        spoken = EditStep(mode=Mode.CLONE, text=segment.text, **shared)
        steps = (spoken, *(step.model_copy(update=shared) for step in segment.edits))
        written = self.readings.get(segment.voice)
        return steps if written is None else tuple(one.read_as(written.reading) for one in steps)


class Again(Written):
    """That a segment is made anew. revision: how often."""

    revision: int = 0
    seed: int | None = None


FIRST = Again()

Status = Literal["queued", "paused", "cancelled", "done", "deleted"]


class JobState(Written):
    """How a job stands: one entry of its journal."""

    status: Status
    at_unix_s: float
    """When this was written."""
    again: dict[str, Again] = Field(default_factory=dict[str, Again])
    """By the number of a segment, those that were to be made anew."""
    n_failed: int = 0
    """Segments that came to nothing, of a job that is done."""
    n_bad: int = 0
    """Segments that the guard found fault with."""
    n_over: int = 0
    """Subtitles that are longer than their times."""
    results: int | None = None
    """Which results are the newest."""

    @property
    def is_open(self) -> bool:
        """Somebody is to run it."""
        return self.status == "queued"

    def asked_again(self, number: int) -> Again:
        """What is wanted of a segment."""
        return self.again.get(str(number), FIRST)


class RunNote(Written):
    """Who runs a job, and how far it is: one entry of the journal of its runs."""

    runner: str
    """Empty: nobody any more."""
    token: str
    n_done: int = 0
    n_bad: int = 0
    n_failed: int = 0
    eta_s: float | None = None
    doing: Literal["speaking", "waiting", "joining", "storing", "resting"] = "resting"
    """waiting: other requests go first. storing: the store does not answer."""


class Fault(Written):
    """Why a segment came to nothing."""

    code: str
    message: str
    param: str | None = None


class PartFacts(Written):
    """What came of a segment. Never changes."""

    number: int
    revision: int = 0
    fault: Fault | None = None
    """Nothing came."""
    audio: str = ""
    """Hex digest of the part's FLAC file."""
    size_bytes: int = 0
    n_samples: int = 0
    """24 kHz."""
    verdict: Verdict = Verdict.OK
    is_retried: bool = False
    seed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    clip_digest: str = ""
    """Of whose voice it is."""
    loudness_lufs: float = 0.0
    stretch: float = 1.0
    """How much faster it is played than it was spoken, to fit its time."""
    is_hurried: bool = False
    """It was spoken faster by an edit."""
    over_s: float = 0.0
    """How much longer it is than its time."""

    @property
    def is_bad(self) -> bool:
        """The guard found fault with it."""
        return self.fault is None and self.verdict is not Verdict.OK


class ResultNote(Written):
    """One file and what belongs to it. Never changes."""

    response_format: str
    media_type: str
    sample_rate_hz: int
    audio_s: float
    size_bytes: int
    n_slabs: int
    sha256: str
    """Of the whole file."""
    signed: str = ""
    """What the slabs of a signed file are told apart by: each signature is another one."""


def segment_seed(seed: int, number: int, revision: int) -> int:
    """The seed of a segment that has none of its own."""
    return derived_seed("job segment", f"{seed}/{number}/{revision}")
