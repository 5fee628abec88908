"""The one definition of every number that a run is described by.

`METRICS` names them, with their units and what they mean; `summary` computes them.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from load_tests.bench.report import percentile
from load_tests.load.answers import Answer
from load_tests.load.workload import Objective

NEVER = math.inf  # of a call that failed: later than all others
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
STAGES = ("tokenizer", "llm", "vocoder")

Summary = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of a summary. path: its keys there."""

    path: tuple[str, ...]
    name: str
    unit: str
    better: Literal["lower", "higher"]
    means: str

    def of(self, summary: Mapping[str, Any]) -> float | None:
        """Its value; None where it is not known, or never came."""
        value: Any = summary
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run cost, and what the caches spared it. None where nobody can tell."""

    saved_s: float | None
    core_s: float | None
    """Of the whole machine."""
    joules: float | None


_FIRST = (
    "from the moment at which the call was to be sent to its first byte of audio, of all calls "
    "that were neither refused nor cancelled before; a call that failed comes after all others"
)
METRICS = (
    *(
        Metric(("first_audio_s", share), f"first audio, {share}", "s", "lower", _FIRST)
        for share in SHARES
    ),
    Metric(
        ("whole_s", "p50"),
        "whole answer, p50",
        "s",
        "lower",
        "from the same moment to the last byte",
    ),
    *(
        Metric(
            ("rtf", share),
            f"RTF, {share}",
            "",
            "lower",
            "the whole answer's time over its audio's, of answers that were read as they came",
        )
        for share in ("p50", "p95")
    ),
    Metric(
        ("dry_share",),
        "answers that ran dry",
        "share",
        "lower",
        "of the answers with audio, read as they came: a player that begins with the first byte "
        "had to wait (for more than 10 ms) at least once",
    ),
    Metric(("stall_s",), "stalls", "s", "lower", "how long those players waited, all together"),
    Metric(
        ("goodput_hz",),
        "goodput",
        "calls/s",
        "higher",
        "answers a second that met the workload's objective and never ran dry",
    ),
    Metric(
        ("good_share",),
        "good answers",
        "share",
        "higher",
        "the same, of all calls that nobody cancelled",
    ),
    Metric(
        ("audio_s_per_s",),
        "audio",
        "s/s",
        "higher",
        "seconds of audio heard a second, all calls together",
    ),
    Metric(("refused_share",), "refused", "share", "lower", "of all calls, with 429 or 503"),
    Metric(
        ("refusals", "first_word_s", "p99"),
        "refusals, p99",
        "s",
        "lower",
        "from the moment at which the call was to be sent until it was refused",
    ),
    Metric(
        ("refusals", "usable_share"),
        "usable Retry-After",
        "share",
        "higher",
        "of refusals: says a number of seconds between 0 and 120",
    ),
    Metric(("failed_share",), "failed", "share", "lower", "of all calls, by kind below"),
    Metric(
        ("voice_hit_share",),
        "voices known",
        "share",
        "higher",
        "of replies that tell (X-Cache): the voice needed no encoding",
    ),
    Metric(
        ("speech_hit_share",),
        "spoken before",
        "share",
        "higher",
        "of the same: answered from finished speech",
    ),
    Metric(
        ("saved_s",),
        "seconds saved",
        "s",
        "higher",
        "of work, by the service's own count (/v1/cache, of the router that answered): encodings "
        "and speech that hits would have cost",
    ),
    Metric(
        ("late_sends_s", "max"),
        "latest sending",
        "s",
        "lower",
        "how far behind the plan the load generator itself was, at worst; counted in the above",
    ),
    Metric(
        ("cores_busy",),
        "cores busy",
        "",
        "lower",
        "of the machine, load generator and everything else included",
    ),
    Metric(
        ("joules_per_audio_s",),
        "energy",
        "J/s of audio",
        "lower",
        "by the machine's own meters, where it has some; everything else on the device included",
    ),
)


def is_good(answer: Answer, objective: Objective) -> bool:
    """Whether it met the objective."""
    if answer.outcome != "ok" or answer.first_audio_s is None:
        return False
    is_smooth = answer.is_slow or not answer.underruns
    is_fast = answer.is_slow or objective.rtf is None or _rtf(answer) <= objective.rtf
    return answer.first_audio_s <= objective.first_audio_s and is_smooth and is_fast


def summary(answers: Sequence[Answer], lasts_s: float, objective: Objective) -> Summary:
    """All numbers of some calls. lasts_s: how long they were sent for, and answered."""
    of = Counter(answer.outcome for answer in answers)
    n = len(answers)
    heard = [one for one in answers if one.audio_s]
    read = [one for one in heard if not one.is_slow and one.outcome == "ok"]
    playing = [one for one in heard if not one.is_slow]
    audio_s = sum(one.audio_s for one in answers)
    good = sum(is_good(one, objective) for one in answers)
    told = [one for one in answers if one.voice_hit is not None]
    return {
        "calls": n,
        "ok": of["ok"],
        "refused": of["refused"],
        "failed": of["failed"],
        "left": of["left"],
        "lasts_s": lasts_s,
        "first_audio_s": spread(_first_audios(answers)),
        "whole_s": spread([one.whole_s for one in answers if one.outcome == "ok"]),
        "rtf": spread([_rtf(one) for one in read]),
        "dry_share": _share(sum(bool(one.underruns) for one in playing), len(playing)),
        "underruns": sum(one.underruns for one in playing),
        "stall_s": sum(one.stall_s for one in playing),
        "longest_stall_s": max((one.stall_s for one in playing), default=0.0),
        "longest_gap_s": max((one.longest_gap_s for one in playing), default=0.0),
        "good": good,
        "goodput_hz": _share(good, lasts_s),
        "good_share": _share(good, n - of["left"]),
        "audio_s": audio_s,
        "audio_s_per_s": _share(audio_s, lasts_s),
        "refused_share": _share(of["refused"], n),
        "refusals": _refusals([one for one in answers if one.outcome == "refused"]),
        "failed_share": _share(of["failed"], n),
        "errors": dict(Counter(one.fault for one in answers if one.outcome == "failed")),
        "voice_hit_share": _share(sum(bool(one.voice_hit) for one in told), len(told)),
        "speech_hit_share": _share(sum(one.is_speech_hit for one in told), len(told)),
        "hits_untold": n - len(told),
        "late_sends_s": spread([one.sent_s - one.at_s for one in answers]),
        "stages_s": stage_means(answers),
        "by_dialect": dict(Counter(one.dialect for one in answers)),
    }


def costs(spent: Spent, answers: Sequence[Answer], lasts_s: float) -> Summary:
    """What a whole run took of the machine, and what the caches spared it."""
    audio_s = sum(one.audio_s for one in answers)
    return {
        "saved_s": spent.saved_s,
        "cores_busy": _share(spent.core_s, lasts_s),
        "joules_per_audio_s": _share(spent.joules, audio_s),
    }


def spread(values: Iterable[float]) -> dict[str, float | None]:
    """Median, tail and largest; None without values, and where the call never came."""
    found = list(values)
    if not found:
        return dict.fromkeys((*SHARES, "max"))
    told = {name: percentile(found, share) for name, share in SHARES.items()} | {"max": max(found)}
    return {name: value if math.isfinite(value) else None for name, value in told.items()}


def stage_means(answers: Iterable[Answer]) -> dict[str, float]:
    """Mean seconds until the first audio by stage, of speech that was made; none without any.

    `rest`: what the client waited for beyond them, queues and the way included.
    """
    made = [
        one
        for one in answers
        if one.outcome == "ok" and one.stages_s and not one.is_speech_hit and one.first_audio_s
    ]
    if not made:
        return {}
    means = {
        stage: statistics.fmean(one.stages_s.get(stage, 0.0) for one in made) for stage in STAGES
    }
    whole_s = statistics.fmean(one.first_audio_s or 0.0 for one in made)
    return {**means, "rest": max(0.0, whole_s - sum(means.values()))}


def uncounted(told: Mapping[str, Any]) -> int:
    """Calls of a summary that are neither answered, refused, failed nor cancelled by plan.

    Failures without a kind are among them.
    """
    ended = sum(int(told[kind]) for kind in ("ok", "refused", "failed", "left"))
    kinds = sum(int(n) for kind, n in told["errors"].items() if kind)
    statuses = sum(int(n) for n in told["refusals"]["by_status"].values())
    return (
        abs(int(told["calls"]) - ended)
        + abs(int(told["failed"]) - kinds)
        + abs(int(told["refused"]) - statuses)
    )


def _first_audios(answers: Iterable[Answer]) -> list[float]:
    counted: dict[str, Callable[[Answer], float | None]] = {
        "ok": lambda one: one.first_audio_s,
        "left": lambda one: one.first_audio_s,  # None: hung up before
        "failed": lambda one: NEVER if one.first_audio_s is None else one.first_audio_s,
        "refused": lambda one: None,
    }
    values = [counted[one.outcome](one) for one in answers]
    return [value for value in values if value is not None]


def _refusals(refused: Sequence[Answer]) -> dict[str, Any]:
    return {
        "by_status": dict(Counter(str(one.status) for one in refused)),
        "first_word_s": spread([one.whole_s for one in refused]),
        "usable_share": _share(sum(one.can_wait for one in refused), len(refused)),
        "retry_after_s": spread(
            [one.retry_after_s for one in refused if one.retry_after_s is not None]
        ),
    }


def _rtf(answer: Answer) -> float:
    return answer.whole_s / answer.audio_s if answer.audio_s else NEVER


def _share(part: float | None, whole: float) -> float | None:
    return part / whole if part is not None and whole else None
