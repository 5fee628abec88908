"""The one table of metrics: name, description, labels, buckets.

Many names are those of vLLM-Omni with our prefix, so that its dashboards read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.serve import metrics

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WORK = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WAIT = WORK[:-1]
TRANSFER = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
UNDERRUN = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RTF = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table."""

    name: str
    help: str
    labels: tuple[str, ...] = ()

    def _described(self) -> dict[str, Any]:
        return {"description": self.help, "tag_keys": self.labels}


class CounterRow(Metric):
    """Counts up."""

    def open(self) -> metrics.Counter:
        """The counter of this process."""
        return metrics.Counter(self.name, **self._described())


class GaugeRow(Metric):
    """A current value."""

    def open(self) -> metrics.Gauge:
        """The gauge of this process; see `gauges`, Ray drops one that is not set again."""
        return metrics.Gauge(self.name, **self._described())


@dataclass(frozen=True, slots=True)
class HistogramRow(Metric):
    """Counts by size."""

    buckets: tuple[float, ...] = SECONDS

    def open(self) -> metrics.Histogram:
        """The histogram of this process."""
        return metrics.Histogram(self.name, boundaries=list(self.buckets), **self._described())


# Of a request, at the router.
REQUESTS = CounterRow("timbre_requests", "Speech requests by outcome.", ("outcome",))
TTFA = HistogramRow("timbre_audio_ttfp_s", "Request accepted to first audio, seconds.")
RTF_OF_REPLIES = HistogramRow(
    "timbre_audio_rtf", "Processing seconds per second of audio.", buckets=RTF
)
AUDIO = CounterRow("timbre_audio_seconds", "Seconds of audio produced.")
ANSWERS = CounterRow(
    "timbre_answers",
    "Answers by the guard's verdict: ok, clipped, hole, buzz, short, divergent, loop, endless, "
    "and lost for a part of a long text that was not spoken.",
    ("verdict", "retried"),
)
CORRUPTED = CounterRow(
    "timbre_corrupted_replies",
    "Replies with audio that the guard finds bad after its retries, by the worst verdict.",
    ("verdict",),
)
VOICES = CounterRow(
    "timbre_voice_lookups", "Voices resolved, by the tier that answered.", ("tier",)
)
SPEECH = CounterRow(
    "timbre_speech_lookups",
    "Speech by what answered: none (it was made), joined (while it was made for another request), "
    "or the tier that had it.",
    ("source",),
)
SLOW = CounterRow(
    "timbre_slow_requests",
    "Replies that came later than telemetry.slow_s; the log has the account of each.",
)
LLM_WORK = HistogramRow("timbre_llm_work_s", "Seconds the LLM worked on a request.", buckets=WORK)
STAGE_TIME = HistogramRow(
    "timbre_stage_s",
    "Seconds a request spent in a stage, waiting in it included.",
    ("stage",),
    WORK,
)

# Of a reply's stream, as its listener heard it.
LATENCY = HistogramRow("timbre_e2e_request_latency_s", "Request accepted to last byte.")
DURATION = HistogramRow("timbre_audio_duration_s", "Seconds of audio of one reply.")
UNDERRUNS = HistogramRow(
    "timbre_audio_underrun_s", "Seconds a player ran dry in one reply.", buckets=UNDERRUN
)
GAP = HistogramRow("timbre_audio_gap_s", "Longest wait between two pieces of one reply.")
FRAMES = CounterRow("timbre_audio_frames", "Audio frames (24 kHz samples) produced.")
CONTINUITY = CounterRow(
    "timbre_audio_continuity_ok",
    "Whole replies by whether they could be played without a pause.",
    ("ok",),
)
SKIPPED = CounterRow("timbre_audio_skipped_requests", "Requests that ended without audio.")
ABORTED = CounterRow("timbre_speech_stream_aborted", "Streams that ended before their end.")
COMPLETED = CounterRow("timbre_speech_stream_completed", "Streams that ended as they should.")

# Of keys, at the router.
TENANT_REQUESTS = CounterRow(
    "timbre_tenant_requests",
    "Requests let in, by tenant: the first 100 that a router sees by name, the rest as other.",
    ("tenant",),
)
KEY_REFUSALS = CounterRow(
    "timbre_key_refusals",
    "Requests refused: without a key (missing), with one that does not count (invalid), that lacks "
    "the scope (scope), or that could not be looked up (unknown).",
    ("reason",),
)

# Of what both caches save, at a router; by voice, GET /v1/cache/savings says it.
SAVED_HITS = CounterRow(
    "timbre_saved_hits",
    "Records that were found instead of computed, by cache (voices, speech) and tenant: the first "
    "100 that a router sees by name, the rest as other.",
    ("cache", "tenant"),
)
SAVED_SECONDS = CounterRow(
    "timbre_saved_seconds", "What these would have cost to compute.", ("cache", "tenant")
)
KEPT_SECONDS = GaugeRow(
    "timbre_kept_savings_s",
    "What was saved on all days that accounts are kept of, by all routers, restarts included; what "
    "others save is looked up every ten minutes.",
    ("cache",),
)
KEPT_MONEY = GaugeRow(
    "timbre_kept_savings_money",
    "The same at telemetry.gpu_hour_price an hour; 0 without a price.",
    ("cache",),
)

# Of sessions over WebSockets, at the router.
SESSIONS = GaugeRow("timbre_sessions", "Sessions open on this router.")
SESSIONS_ENDED = CounterRow(
    "timbre_sessions_ended",
    "Sessions ended: closed or gone (by the client), idle, expired, unconfigured, mistakes, error.",
    ("reason",),
)
CANCELS = CounterRow("timbre_input_cancels", "Interruptions by a session's client.")
CANCEL_TIME = HistogramRow(
    "timbre_input_cancel_s",
    "Seconds from an interruption until the stages were told to stop.",
    buckets=WAIT,
)

# Of any stage.
RUNNING = GaugeRow(
    "timbre_num_requests_running",
    "Requests at work, by stage; at the router all that it holds.",
    ("stage",),
)
WAITING = GaugeRow(
    "timbre_num_requests_waiting",
    "Requests waiting, by stage; at the router for first audio.",
    ("stage",),
)
QUEUE_TIME = HistogramRow(
    "timbre_stage_queue_s", "Seconds a request waited, by stage.", ("stage",), WAIT
)
TRANSFER_BYTES = CounterRow(
    "timbre_transfer_bytes", "Bytes of arrays handed between stages, by hop.", ("hop",)
)
TRANSFER_TIME = HistogramRow(
    "timbre_transfer_s",
    "Seconds a record was on its way between stages, by hop.",
    ("hop",),
    TRANSFER,
)

# Of who is let in, at a vocoder; a router repeats some refusals without asking.
REFUSALS = CounterRow(
    "timbre_admission_refusals",
    "Requests refused at once, by service (stream, whole, batch) and reason: late (it could not be "
    "served in time), full (as many wait as may), share or limit (of the tenant), told (a router "
    "knew a vocoder's answer).",
    ("service", "reason"),
)
CAPACITY = GaugeRow(
    "timbre_admission_capacity", "Seconds of audio a second that this vocoder would promise."
)
RESERVED = GaugeRow(
    "timbre_admission_reserved", "Seconds of audio a second that its listeners play now."
)
QUEUE_AGE = GaugeRow(
    "timbre_admission_queue_age_s", "Seconds that the request waits which waits longest."
)

# Of who has used what he may, at a router.
QUOTA_REFUSALS = CounterRow(
    "timbre_quota_refusals",
    "Refusals by quotas, by measure (requests, audio_minute, audio_day, streams, voices,"
    " stored_bytes) and whose quota it is (tenant, key).",
    ("measure", "of"),
)
QUOTA_ALONE = GaugeRow(
    "timbre_quota_alone",
    "1 while the cluster's book of quotas does not answer this router, which goes on with its"
    " share.",
)

# Of one stage's replicas.
ENCODES = CounterRow("timbre_encodes", "Reference clips encoded by this replica.")
LLM_STREAMS = GaugeRow("timbre_llm_streams", "Token streams open on this replica.")
LLM_BYTES = GaugeRow(
    "timbre_llm_bytes",
    "Memory of this replica: weights, cache (keys and values of all slots), prefixes, and on a GPU"
    " device (all that the process holds there) and limit (its cap).",
    ("part",),
)
LLM_START = GaugeRow("timbre_llm_start_s", "Seconds that parts of the start took.", ("part",))
VOCODER_STREAMS = GaugeRow("timbre_vocoder_streams", "Audio streams open on this replica.")
VOCODER_BYTES = GaugeRow(
    "timbre_vocoder_cache_bytes",
    "Bytes of streams' caches held, those kept for the next streams included.",
)

# Of processes: replicas, and what serves them.
PROCESS_BYTES = GaugeRow(
    "timbre_process_bytes",
    "Memory of a process (replica, proxy, raylet, controller, gcs): private, store (pages of the"
    " object store that it touched), file (mapped files), and gpu (held there by torch).",
    ("process", "part"),
)
PROCESS_OPEN = GaugeRow(
    "timbre_process_open", "Open files and threads of a process.", ("process", "kind")
)
CONTROLLER_LAG = GaugeRow(
    "timbre_controller_lag_s",
    "Longest that Serve's controller let anybody wait since the last report, seconds.",
)
GCS_ANSWER = GaugeRow("timbre_gcs_answer_s", "Seconds that Ray's GCS took to answer.")


# Of the caches, as a router sees them.
_TIER = "Numbers of a tier: breaker (1 is open), queued, dropped and others."
CACHE_REQUESTS = CounterRow(
    "timbre_cache_requests", "Look-ups by kind, tier and result.", ("kind", "tier", "result")
)
CACHE_COMPUTES = CounterRow("timbre_cache_computes", "Records computed by this router's requests.")
CACHE_SAVED = CounterRow(
    "timbre_cache_saved_encode_seconds", "What hits would have cost to encode."
)
CACHE_BYTES = GaugeRow("timbre_cache_bytes", "Bytes held.", ("tier",))
CACHE_TIER = GaugeRow("timbre_cache_tier", _TIER, ("tier", "number"))
SPEECH_CACHE_REQUESTS = CounterRow(
    "timbre_speech_cache_requests",
    "Look-ups of finished speech by kind, tier and result.",
    ("kind", "tier", "result"),
)
SPEECH_CACHE_COMPUTES = CounterRow(
    "timbre_speech_cache_computes", "Answers that were made to be kept."
)
SPEECH_CACHE_SAVED = CounterRow(
    "timbre_speech_cache_saved_seconds", "What hits would have cost to make."
)
SPEECH_CACHE_BYTES = GaugeRow(
    "timbre_speech_cache_bytes", "Bytes of finished speech held.", ("tier",)
)
SPEECH_CACHE_TIER = GaugeRow("timbre_speech_cache_tier", _TIER, ("tier", "number"))


@dataclass(frozen=True, slots=True)
class CacheRows:
    """What is told of one cache."""

    requests: CounterRow
    computes: CounterRow
    saved: CounterRow
    bytes: GaugeRow
    tier: GaugeRow


VOICE_CACHE = CacheRows(CACHE_REQUESTS, CACHE_COMPUTES, CACHE_SAVED, CACHE_BYTES, CACHE_TIER)
SPEECH_CACHE = CacheRows(
    SPEECH_CACHE_REQUESTS,
    SPEECH_CACHE_COMPUTES,
    SPEECH_CACHE_SAVED,
    SPEECH_CACHE_BYTES,
    SPEECH_CACHE_TIER,
)
