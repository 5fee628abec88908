"""Jobs and segments as JSON."""

from __future__ import annotations

from typing import Any

from deployments.jobs.library import Job, Made
from deployments.jobs.results import told_segment

JOBS = "/v1/audio/jobs"
RESTING = "resting"


def status_of(job: Job) -> str:
    """In one word: queued, running, paused, cancelled, completed or failed."""
    if job.is_running:
        return "running"
    if job.state.status == "done":
        return "failed" if job.state.results is None else "completed"
    return job.state.status


def is_over(job: Job) -> bool:
    """Nothing more will happen by itself."""
    return status_of(job) in {"completed", "failed", "cancelled"}


def told_job(job: Job, keep_s: float) -> dict[str, Any]:
    """A job. keep_s: how long what ended is kept."""
    plan, run = job.plan, job.run
    ended = job.state.at_unix_s if is_over(job) else None
    return {
        "id": job.id,
        "object": "audio.job",
        "created_at": plan.created_unix_s,
        "label": plan.label,
        "status": status_of(job),
        "doing": run.doing if run is not None and job.is_running else RESTING,
        "progress": _progress(job),
        "response_format": plan.response_format,
        "characters": plan.n_chars,
        "seed": plan.seed,
        "model_variant": plan.variant,
        "target_lufs": plan.target_lufs,
        "ended_at": None if ended is None else int(ended),
        "expires_at": None if ended is None else int(ended + keep_s),
        "results": _results(job),
    }


def told_made(made: Made) -> dict[str, Any]:
    """A segment."""
    return {"object": "audio.job.segment", **told_segment(made.number, made.segment, made.facts)}


def _progress(job: Job) -> dict[str, Any]:
    run, n_total = job.run, job.plan.n_segments
    n_done = min(run.n_done, n_total) if run is not None else 0
    n_bad, n_failed = (run.n_bad, run.n_failed) if run is not None else (0, 0)
    if job.state.status == "done":
        n_done, n_bad, n_failed = n_total, job.state.n_bad, job.state.n_failed
    return {
        "segments": n_total,
        "done": n_done - n_failed,
        "bad": n_bad,
        "failed": n_failed,
        "over": job.state.n_over,
        "share": round(n_done / n_total, 4),
        "eta_s": run.eta_s if run is not None and job.is_running else None,
    }


def _results(job: Job) -> dict[str, str] | None:
    """Addresses of what is there."""
    if job.state.results is None:
        return None
    at = f"{JOBS}/{job.id}"
    return {
        "audio": f"{at}/audio",
        "srt": f"{at}/subtitles?format=srt",
        "vtt": f"{at}/subtitles?format=vtt",
        "manifest": f"{at}/manifest",
    }
