"""How many replicas a stage needs by what its replicas tell, and Serve's way of asking.

Serve's controller loads this module by value, so it imports nothing of ours. What a stage aims at
comes with what its replicas tell: the controller knows no settings, and a second place for the same
numbers (`policy_kwargs`) would drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from typing import Any, Protocol

MOST_AT_ONCE = 2.0  # times the replicas that run: who starts is not yet any help
SLACK = 0.8  # of what is aimed at: fewer replicas must have as much room left
STALE_S = 45.0  # four of Serve's slowest reports
AIM = "aim_"  # before the names of aims, as they are told


@dataclass(frozen=True, slots=True)
class Aims:
    """Beyond which a stage of several replicas grows."""

    busy: float
    """Share of its slots in use."""
    queue_age_s: float
    """How long the one waited who waits longest."""
    cache: float
    """Share of the bytes for what is at work, in use."""
    spare: float
    """Replicas ready beyond those that the work needs."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one replica does at a moment, or the most of it in a while."""

    busy: float
    """Slots in use."""
    slots: float
    """Slots that there are."""
    queue_age_s: float = 0.0
    """How long the one waits who waits longest; 0 while nobody does."""
    refused: float = 0.0
    """Requests turned away for want of room since the last time."""
    cache_bytes: float = 0.0
    """What the work at hand takes of the bytes that may be taken."""
    cache_limit_bytes: float = 0.0
    """Those bytes; 0 where nothing bounds them."""
    is_spent: float = 0.0
    """1 for a replica that outgrew its memory, and waits for another to stand in."""


Moment = Sequence[Work]  # of all replicas that told of themselves, at about the same time


def told(work: Work, aims: Aims) -> dict[str, float]:
    """Both as a replica tells them."""
    return {**asdict(work), **{f"{AIM}{name}": value for name, value in asdict(aims).items()}}


def wanted(moments: Iterable[Moment], aims: Aims, *, running: int, target: int) -> int:
    """Replicas that a stage needs.

    moments: of the look-back time, the newest first; older ones are looked at only where the stage
    might shrink. running: replicas, of which some may not have told of themselves yet. target: what
    was wanted last. It grows by what is now. It shrinks by the
    most of the look-back time, and only to where that leaves SLACK, so that what made it grow does
    not make it shrink and grow again; not while one has not told yet, and not while one is spent:
    Serve might stop the one that stands in.
    """
    moments = iter(moments)
    now = next(moments, [])
    if not running or not now:
        return target  # Serve itself starts the first for who waits
    grown = _needed(now, aims, running, 1.0)
    n_spent = sum(work.is_spent > 0 for work in now)
    if n_spent == running:
        grown = max(grown, running + 1)
    if grown >= target or n_spent or len(now) < running:
        return max(grown, target)
    lately = max(_needed(moment, aims, running, SLACK) for moment in (now, *moments))
    return min(target, lately)


def _needed(works: Moment, aims: Aims, running: int, share: float) -> int:
    """Replicas for so much work, if `share` of what is aimed at is used."""
    n = max(len(works), 1)
    slots = sum(work.slots for work in works) / n
    limit_bytes = sum(work.cache_limit_bytes for work in works) / n
    least = [0.0]
    if slots:
        least.append(sum(work.busy for work in works) / (slots * aims.busy * share))
    if limit_bytes:
        used_bytes = sum(work.cache_bytes for work in works)
        least.append(used_bytes / (limit_bytes * aims.cache * share))
    lateness = max((work.queue_age_s for work in works), default=0.0) / (aims.queue_age_s * share)
    if lateness > 1:
        least.append(running * min(lateness, MOST_AT_ONCE))
    if any(work.refused for work in works):
        least.append(running * MOST_AT_ONCE)
    return math.ceil(round(max(least), 6)) + int(aims.spare)


class Sample(Protocol):
    """A number at a time, as Serve keeps them. The newest is the last."""

    timestamp: float
    value: float


class Context(Protocol):
    """What Serve hands a policy, as far as this one reads it: `ray.serve.config`."""

    current_num_replicas: int
    target_num_replicas: int
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    current_time: float
    raw_metrics: Mapping[str, Mapping[Any, Sequence[Sample]]]


def by_work(context: Context) -> tuple[int, dict[str, Any]]:
    """The policy that `autoscaling_config` names. It has no state: Serve's delays are its memory.

    Serve asks it ten times a second and applies upscale_delay_s, downscale_delay_s and
    downscale_to_zero_delay_s to what it says.
    """
    moments, aims = _observed(context.raw_metrics, context.current_time)
    target = context.target_num_replicas
    if aims is None:
        return target, {}
    most, least = context.capacity_adjusted_max_replicas, context.capacity_adjusted_min_replicas
    if target <= least:  # it cannot shrink
        moments = islice(moments, 1)
    needs = wanted(moments, aims, running=context.current_num_replicas, target=target)
    return max(least, min(most, needs)), {}


def _observed(
    metrics: Mapping[str, Mapping[Any, Sequence[Sample]]], now_s: float
) -> tuple[Iterable[Moment], Aims | None]:
    """What replicas told lately, and the aims that the last of them told.

    Their clocks tick alike: the n-th last of what each told is of the same moment, by and large.
    """
    parts = [field.name for field in fields(Work) if field.name in metrics]
    aims = [metrics.get(f"{AIM}{field.name}", {}) for field in fields(Aims)]
    lately = {
        replica: busy[-1].timestamp
        for replica, busy in metrics.get("busy", {}).items()
        if busy and now_s - busy[-1].timestamp <= STALE_S
        if all(replica in metrics[part] for part in parts) and all(replica in aim for aim in aims)
    }
    if not lately or "slots" not in parts:
        return [], None
    last = max(lately, key=lambda replica: lately[replica])
    series = [[metrics[part][replica] for part in parts] for replica in lately]
    return _moments(parts, series), Aims(*(aim[last][-1].value for aim in aims))


def _moments(parts: Sequence[str], series: list[list[Sequence[Sample]]]) -> Iterator[Moment]:
    """series: of each replica, what it told of each part."""
    for n in range(1, max(len(one[0]) for one in series) + 1):
        yield [
            Work(**{part: told[-n].value for part, told in zip(parts, one, strict=True)})
            for one in series
            if all(len(told) >= n for told in one)
        ]
