"""The section of the settings that describes jobs: long texts, read behind all other work."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deployments.config.section import Positive, Seconds, Strict


class JobSettings(Strict):
    """What a job may be, how it is run, and how long its results are kept."""

    max_segments: Positive = 10_000
    """Most segments of one job."""
    max_chars: Positive = 1_000_000
    """Most characters of one job, all segments together."""
    max_kept: Positive = 1_000
    """Jobs of a tenant that are kept, finished ones included."""
    keep_results_s: Seconds = 7 * 86_400.0
    """How long a job that ended, and what it made, is kept; then both are removed."""
    concurrency: Positive = 1
    """Segments that one replica has in work at a time, of all its jobs together."""
    max_running: Positive = 4
    """Jobs that one replica runs at a time; they share `concurrency`."""
    others_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the vocoder's max_streams that other requests may use while segments are begun; 0
    begins one only while nobody else is spoken to. Nothing is begun while requests wait."""
    patience_s: Seconds = 60.0
    """Longest wait of a job behind other requests; then it begins one segment all the same."""
    steps_aside: bool = True
    """Segments in work draw a token now and then while others draw. Off where a step's further rows
    cost others little, as on a GPU: a busy service would hardly get on with its jobs."""
    lease_s: Seconds = 5.0
    """How long the death of a replica that runs a job may go unnoticed."""
    tries: Positive = 20
    """Attempts at a segment while a stage fails; what the text itself causes is not tried again."""
    target_lufs: Annotated[float, Field(ge=-40, le=-5)] = -19.0
    """Loudness of a job's one file, unless the job says otherwise."""
    max_stretch: Annotated[float, Field(ge=1, le=2)] = 1.3
    """How much faster a subtitle's speech may be played to fit its time."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that may be told of a job's end, such as "hooks.example" or "hooks.example:8443"; none
    by default. An address that is not public must be listed here itself."""
    webhook_secret_env: str = "TIMBRE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
    """Environment variable with the secret that what they are told is signed with."""
    webhook_timeout_s: Seconds = 10.0
    """Longest wait for such a host's answer."""
