"""Every metric in one table: where it is counted, its unit, what its labels say.

`docs/metrics.md` is made from it, and from the alerts that use each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deployments.telemetry import metrics as m
from deployments.telemetry.metrics import CounterRow, HistogramRow, Metric

PREFIX = "ray_"  # what Ray puts in front of every name


@dataclass(frozen=True, slots=True)
class Group:
    """Metrics that are counted in one place."""

    where: str
    rows: tuple[Metric, ...]


GROUPS = (
    Group(
        "At the router, of a request",
        (
            m.REQUESTS, m.TTFA, m.RTF_OF_REPLIES, m.AUDIO, m.ANSWERS, m.CORRUPTED, m.VOICES,
            m.SPEECH, m.SLOW, m.LLM_WORK, m.STAGE_TIME,
        ),
    ),
    Group(
        "At the router, of a reply as its listener heard it",
        (
            m.LATENCY, m.DURATION, m.UNDERRUNS, m.GAP, m.FRAMES, m.CONTINUITY, m.SKIPPED,
            m.ABORTED, m.COMPLETED,
        ),
    ),
    Group("At the router, of keys and quotas", (
        m.TENANT_REQUESTS, m.KEY_REFUSALS, m.QUOTA_REFUSALS, m.QUOTA_ALONE,
    )),
    Group("At the router, of sessions over WebSockets", (
        m.SESSIONS, m.SESSIONS_ENDED, m.CANCELS, m.CANCEL_TIME,
    )),
    Group("At the router, of its caches", (
        m.CACHE_REQUESTS, m.CACHE_COMPUTES, m.CACHE_SAVED, m.CACHE_BYTES, m.CACHE_TIER,
        m.SPEECH_CACHE_REQUESTS, m.SPEECH_CACHE_COMPUTES, m.SPEECH_CACHE_SAVED,
        m.SPEECH_CACHE_BYTES, m.SPEECH_CACHE_TIER, m.SAVED_HITS, m.SAVED_SECONDS, m.KEPT_SECONDS,
        m.KEPT_MONEY,
    )),
    Group("At every stage", (
        m.RUNNING, m.WAITING, m.QUEUE_TIME, m.TRANSFER_BYTES, m.TRANSFER_TIME,
    )),
    Group("At a vocoder, of who is let in", (
        m.REFUSALS, m.CAPACITY, m.RESERVED, m.QUEUE_AGE,
    )),
    Group("At one stage's replicas", (
        m.ENCODES, m.LLM_STREAMS, m.LLM_BYTES, m.LLM_START, m.VOCODER_STREAMS, m.VOCODER_BYTES,
    )),
    Group("Of processes", (
        m.PROCESS_BYTES, m.PROCESS_OPEN, m.CONTROLLER_LAG, m.GCS_ANSWER,
    )),
)  # fmt: skip

LABELS: Mapping[str, str] = {
    "cache": "`voices` or `speech`",
    "hop": "sending and receiving stage",
    "kind": "what is counted: of look-ups `voice`, `speech` or `alias`; of a process `files` or "
    "`threads`",
    "number": "which of the tier's numbers",
    "of": "whose quota it is: `tenant` or `key`",
    "ok": "`true` or `false`",
    "outcome": "`ok`, `error`, `refused` or `cancelled`",
    "part": "which part of the sum",
    "process": "`replica`, `proxy`, `raylet`, `controller` or `gcs`",
    "measure": "what the quota bounds",
    "reason": "why",
    "result": "`hit`, `miss`, `negative` (a failure that is remembered), `error`, `skipped`, "
    "`corrupt` or `unreadable`",
    "retried": "whether the answer was drawn a second time",
    "service": "how the answer is taken: `stream`, `whole` or `batch`",
    "source": "what had the speech: `none`, `joined` or a tier",
    "stage": "`router`, `tokenizer`, `llm`, `vocoder`, `jobs` or `asr`",
    "tenant": "namespace of the key; `.other` for those beyond the first 100",
    "tier": "`l1` (this process), `l2` (the cluster), `l3` (the store), or none: `miss`",
    "verdict": "what the guard says of the answer",
}

OF_RAY: Mapping[str, tuple[str, str]] = {
    "up": ("1 or 0", "Whether Prometheus could scrape a machine's page."),
    "ray_serve_deployment_status": (
        "a code",
        "Of a deployment: 0 unknown, 1 failed to deploy, 2 unhealthy, 3 to 5 changing, 6 healthy.",
    ),
    "ray_serve_replica_processing_queries": ("requests", "At work in a replica; one series each."),
    "ray_serve_autoscaling_desired_replicas": ("replicas", "What the policy asks for."),
    "ray_serve_autoscaling_target_replicas": ("replicas", "The same within its bounds."),
    "ray_serve_event_loop_scheduling_latency_ms": ("ms", "How late event loops are; a histogram."),
    "ray_object_store_used_memory": ("bytes", "Of a machine's object store."),
    "ray_object_store_available_memory": ("bytes", "Of a machine's object store."),
}
"""Metrics of Ray's and Prometheus' own that dashboards and alerts use: unit, meaning."""

_UNITS = {
    m.RTF_OF_REPLIES: "s per s of audio",
    m.CAPACITY: "s of audio per s",
    m.RESERVED: "s of audio per s",
    m.CONTINUITY: "replies",
    m.QUOTA_ALONE: "1 or 0",
    m.CACHE_TIER: "as the number has it",
    m.SPEECH_CACHE_TIER: "as the number has it",
    m.KEPT_MONEY: "currency of the price",
    m.FRAMES: "samples at 24 kHz",
    m.PROCESS_OPEN: "files or threads",
}
_ENDINGS = {"_s": "s", "_seconds": "s", "_bytes": "bytes"}


def unit_of(row: Metric) -> str:
    """In words; what has no other unit is a number of what its name says."""
    by_name = (unit for ending, unit in _ENDINGS.items() if row.name.endswith(ending))
    return _UNITS.get(row) or next(by_name, "count")


def series_of(row: Metric) -> str:
    """The name that Prometheus has it by; of a histogram without `_bucket`, `_sum`, `_count`."""
    is_bare = isinstance(row, CounterRow) and not row.name.endswith("_total")
    return f"{PREFIX}{row.name}{'_total' if is_bare else ''}"


def kind_of(row: Metric) -> str:
    """As Prometheus calls it."""
    if isinstance(row, HistogramRow):
        return "histogram"
    return "counter" if isinstance(row, CounterRow) else "gauge"
