"""The sections of the settings that say when a stage gets more replicas, or a new one.

How many there may be, and how long it takes until there are, is Serve's `autoscaling_config`, whose
edits restart nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deployments.config.section import Seconds, Strict

Share = Annotated[float, Field(gt=0, le=1)]
Gib = Annotated[float, Field(gt=0)]

POLICY = "deployments.scaling.policy:by_work"  # as autoscaling_config names it


class StageScaling(Strict):
    """When a stage grows."""

    busy: Share = 0.75
    """Share of the slots in use, on average of all replicas, beyond which there are too few."""
    queue_age_s: Seconds = 1.0
    """Longest wait in a replica's queue before there are too few."""
    cache: Share = 0.85
    """The same of the bytes that the work at hand may take on a device."""
    spare: Annotated[int, Field(ge=0)] = 0
    """Warm pool: replicas that are kept ready beyond those that the work needs."""


class SleepyScaling(StageScaling):
    """When a stage grows that the service can be without for a while."""

    sleeps: bool = False
    """`min_replicas: 0` may stop its last replica; who needs it next waits for its start."""


class ScalingSettings(Strict):
    """When each stage gets more replicas; for stages whose `autoscaling_config` names our policy.

    Slots: of the router limits.max_requests, of the tokenizer the clips it encodes at a time, of an
    LLM llm.slots, of the vocoder max_streams.
    """

    router: StageScaling = StageScaling()
    """Of routers."""
    tokenizer: SleepyScaling = SleepyScaling()
    """Of the voice encoder."""
    llm: StageScaling = StageScaling()
    """Of every variant."""
    vocoder: StageScaling = StageScaling()
    """Of vocoders."""
    asr: SleepyScaling = SleepyScaling()
    """Of the recogniser."""


class StageMemory(Strict):
    """What a replica may grow to; left out, anything."""

    rss_gib: Gib | None = None
    """Memory of its own: what it shares with others, the object store and mapped weights, does not
    count."""
    gpu_gib: Gib | None = None
    """What torch holds of the GPU; below the stage's gpu_memory_gib, at which requests fail."""


class MemorySettings(Strict):
    """Bounds at which a replica is drained and replaced; no request fails of it.

    Another stands in before it goes: the policy starts one more where max_replicas allows.
    """

    router: StageMemory = StageMemory()
    """Of routers."""
    tokenizer: StageMemory = StageMemory()
    """Of the voice encoder."""
    llm: StageMemory = StageMemory()
    """Of every variant."""
    vocoder: StageMemory = StageMemory()
    """Of vocoders."""
    asr: StageMemory = StageMemory()
    """Of the recogniser."""
    jobs: StageMemory = StageMemory()
    """Of who runs jobs."""
    patience_s: Seconds = 120.0
    """How long a replica waits for another to stand in. Then it goes as soon as it has nothing to
    do, and after five times as long in any case; requests wait for the one that replaces it."""
