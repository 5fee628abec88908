"""The JSON of a run: what it was, on what, all its numbers; refused where it does not say so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from load_tests.load.answers import Answer
from load_tests.load.arrivals import Span
from load_tests.load.measures import Spent, costs, summary, uncounted
from load_tests.load.plan import Plan
from load_tests.load.watch import Sample, memory

FORM = 2  # of the document; raised with it
FACTS = ("device", "cpus", "commit", "command", "date")  # without which a number says nothing
MOST_BINS = 48

Document = dict[str, Any]


class RefusedResultError(ValueError):
    """A result that cannot be reported: it does not say on what, or what became of its calls."""


def document(
    plan: Plan,
    answers: Sequence[Answer],
    samples: Sequence[Sample],
    spent: Spent,
    lasts_s: float,
    about: Mapping[str, Any],
    **beside: Any,
) -> Document:
    """A run as JSON has it.

    lasts_s: from the first sending to the last answer. about: hardware, commit, command, date.
    beside: what else is known of it.
    """
    objective = plan.workload.objective
    whole = {**summary(answers, lasts_s, objective), **costs(spent, answers, lasts_s)}
    return {
        "form": FORM,
        **about,
        "workload": plan.workload.model_dump(mode="json"),
        "plan": plan.digest,
        "saturation_hz": plan.saturation_hz,
        "summary": whole,
        "is_met": (whole["good_share"] or 0.0) >= objective.share,
        "phases": [_phase(span, answers, plan) for span in plan.spans],
        "over_time": over_time(answers, samples, lasts_s),
        "memory": memory(samples),
        **beside,
    }


def over_time(
    answers: Sequence[Answer], samples: Sequence[Sample], lasts_s: float
) -> list[dict[str, Any]]:
    """Hits in equal parts of the run, by the moments at which calls were to be sent."""
    n_bins = max(1, min(MOST_BINS, len(answers) // 4))
    width_s = lasts_s / n_bins
    bins: list[list[Answer]] = [[] for _ in range(n_bins)]
    for answer in answers:
        bins[min(n_bins - 1, int(answer.at_s / width_s))].append(answer)
    return [_bin((i + 1) * width_s, some, samples) for i, some in enumerate(bins)]


def _bin(ends_s: float, answers: Sequence[Answer], samples: Sequence[Sample]) -> dict[str, Any]:
    told = [one for one in answers if one.voice_hit is not None]
    known = [one.saved_s for one in samples if one.at_s <= ends_s and one.saved_s is not None]
    begun = next((one.saved_s for one in samples if one.saved_s is not None), None)
    return {
        "ends_s": round(ends_s, 3),
        "calls": len(answers),
        "told": len(told),
        "voice_hits": sum(bool(one.voice_hit) for one in told),
        "saved_s": known[-1] - begun if known and begun is not None else None,
    }


def _phase(span: Span, answers: Sequence[Answer], plan: Plan) -> dict[str, Any]:
    is_last = span == plan.spans[-1]
    within = [
        one for one in answers if span.begins_s <= one.at_s and (one.at_s < span.ends_s or is_last)
    ]
    told = summary(within, span.lasts_s, plan.workload.objective)
    return {**asdict(span), "summary": told}


def checked(result: Any, name: str) -> Document:
    """A result that says on what it was made and counts its errors. Raises RefusedResultError."""
    if not isinstance(result, dict) or result.get("form") != FORM:
        raise RefusedResultError(f"{name} is no result of this form ({FORM})")
    if missing := [fact for fact in FACTS if result.get(fact) in (None, "", 0)]:
        raise RefusedResultError(f"{name} does not say its {', '.join(missing)}")
    for told in (result["summary"], *(phase["summary"] for phase in result["phases"])):
        if n := uncounted(told):
            raise RefusedResultError(
                f"{name}: {n} calls are counted nowhere, or without a kind of error"
            )
    in_phases = sum(phase["summary"]["calls"] for phase in result["phases"])
    if result["phases"] and in_phases != result["summary"]["calls"]:
        raise RefusedResultError(f"{name}: {in_phases} calls in phases, not those of the whole")
    return result


def load_results(paths: Sequence[Path]) -> list[Document]:
    """Results of files, and of the JSON files of directories. Raises RefusedResultError."""
    files = [
        file
        for path in paths
        for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])
    ]
    if not files:
        raise RefusedResultError("there are no results")
    found: list[Document] = []
    for file in files:
        try:
            found.append(checked(json.loads(file.read_text(encoding="utf-8")), file.name))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, RefusedResultError):
                raise
            raise RefusedResultError(f"{file.name} cannot be read: {error}") from error
    return found


def calls_of(answers: Sequence[Answer]) -> str:
    """Every call on a line, as JSON; also a recording of when they came."""
    ordered = sorted(answers, key=lambda one: one.number)
    return "".join(f"{json.dumps(asdict(one), default=dict)}\n" for one in ordered)
