"""Shapes of the replies about jobs, as the API's pages describe them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

Status = Literal["queued", "running", "paused", "cancelled", "completed", "failed"]


class JobProgress(BaseModel):
    """Segments. bad: made, and the guard found fault with them. share: of all, 0 to 1.

    over: subtitles that are longer than their times, of a job that ended.
    """

    segments: int
    done: int
    bad: int
    failed: int
    over: int
    share: float
    eta_s: float | None


class JobResults(BaseModel):
    """Addresses."""

    audio: str
    srt: str
    vtt: str
    manifest: str


class JobReply(BaseModel):
    """A job. doing: of one that runs; waiting: other requests go first."""

    id: str
    object: Literal["audio.job"]
    created_at: int
    label: str | None
    status: Status
    doing: Literal["speaking", "waiting", "joining", "storing", "resting"]
    progress: JobProgress
    response_format: str
    characters: int
    seed: int
    model_variant: str
    target_lufs: float | None
    ended_at: int | None
    expires_at: int | None
    results: JobResults | None


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    object: Literal["list"]
    data: list[JobReply]
    has_more: bool
    first_id: str | None
    last_id: str | None


class JobDeleted(BaseModel):
    """As OpenAI tells it of other things."""

    id: str
    object: Literal["audio.job.deleted"]
    deleted: bool


class JobFault(BaseModel):
    """Why a segment came to nothing."""

    code: str
    message: str
    param: str | None


class JobUsage(BaseModel):
    """Tokens."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class JobSegmentFacts(BaseModel):
    """One segment, counted from 0.

    begin_s, end_s: in the one file, where it is told of one. cue: its time, of subtitles. stretch:
    how much faster it is played to fit. over_s: how much it is too long all the same. digest:
    BLAKE3 of its FLAC file.
    """

    segment: int
    text: str
    voice: str
    status: Literal["pending", "done", "failed"]
    error: JobFault | None
    revision: int
    seed: int | None
    verdict: str | None
    is_retried: bool
    audio_s: float | None
    begin_s: float | None
    end_s: float | None
    cue: list[float] | None
    stretch: float | None
    is_hurried: bool
    over_s: float | None
    usage: JobUsage
    digest: str | None


class JobSegmentReply(JobSegmentFacts):
    """One segment by itself."""

    object: Literal["audio.job.segment"]


class JobSegmentList(BaseModel):
    """A page of segments, in order."""

    object: Literal["list"]
    data: list[JobSegmentReply]
    has_more: bool


class JobFile(BaseModel):
    """The one file."""

    response_format: str
    media_type: str
    sample_rate: int
    audio_s: float
    size_bytes: int
    sha256: str


class JobManifest(BaseModel):
    """What was made."""

    object: Literal["audio.job.manifest"]
    job: str
    label: str | None
    file: JobFile
    segments: list[JobSegmentFacts]


SHAPES: tuple[type[BaseModel], ...] = (
    JobReply,
    JobList,
    JobDeleted,
    JobSegmentReply,
    JobSegmentList,
    JobManifest,
)
