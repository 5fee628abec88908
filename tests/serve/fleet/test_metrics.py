"""What Prometheus reads of a running service: the names that dashboards of peers use."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

import pytest

from deployments.telemetry.gauges import PUBLISH_S
from tests.serve.fleet.conftest import REPORT_S
from tests.serve.service_client import ServiceClient, clip_of_its_own, cloned
from tests.waiting import eventually

pytestmark = pytest.mark.serve

# Gauges are set every PUBLISH_S, which Ray's own ten seconds hold; reports of one second hold some.
OF_ALL_GAUGES = math.ceil(PUBLISH_S / REPORT_S) + 2
IDLE_S = 2.5 * REPORT_S  # after two reports without them, gauges set once would be gone
HISTOGRAMS = (
    "audio_ttfp_s",
    "audio_duration_s",
    "audio_rtf",
    "audio_underrun_s",
    "e2e_request_latency_s",
    "stage_s",
    "stage_queue_s",
    "transfer_s",
)
COUNTERS = ("audio_frames", "audio_continuity_ok", "speech_stream_completed", "transfer_bytes")
LABELS = {
    "num_requests_running": ("stage", {"router", "tokenizer", "llm", "vocoder"}),
    "num_requests_waiting": ("stage", {"router", "tokenizer", "llm", "vocoder"}),
    "stage_s_count": ("stage", {"tokenizer", "llm", "vocoder"}),
    "stage_queue_s_count": ("stage", {"tokenizer", "llm", "vocoder"}),
    "llm_bytes": ("part", {"weights", "cache", "prefixes"}),
    "llm_start_s": ("part", {"load", "record", "warm_up"}),
    "process_bytes": ("process", {"replica", "proxy", "raylet", "controller", "gcs"}),
    "process_open": ("kind", {"files", "threads"}),
    "transfer_bytes": (
        "hop",
        {"tokenizer_router", "router_vocoder", "llm_vocoder", "vocoder_router"},
    ),
}


def samples(page: str, name: str) -> list[tuple[str, float]]:
    """Labels and value of every sample whose metric is `name`, whatever Ray puts around it."""
    lines = re.findall(rf"^\w*timbre_{name}(?:_total)?{{(.*)}} (\S+)$", page, re.MULTILINE)
    return [(labels, float(value)) for labels, value in lines]


def values(page: str, name: str, label: str) -> set[str]:
    found = [re.search(rf'{label}="([^"]*)"', labels) for labels, _ in samples(page, name)]
    return {match.group(1) for match in found if match}


def is_complete(page: str) -> bool:
    counts = [f"{name}_count" for name in HISTOGRAMS] + list(COUNTERS)
    return all(sum(v for _, v in samples(page, name)) > 0 for name in counts) and all(
        values(page, name, label) >= expected for name, (label, expected) in LABELS.items()
    )


def test_the_names_of_peers_are_there_after_a_request(many: ServiceClient) -> None:
    of_all_stages = cloned(*clip_of_its_own(), cache="off")
    assert many.http.post("/v1/audio/speech", json=of_all_stages).status_code == 200
    assert many.speak(input="").status_code == 422
    page = page_when(many, is_complete, OF_ALL_GAUGES)
    for name in HISTOGRAMS:
        assert sum(value for _, value in samples(page, f"{name}_count")) > 0, name
    for name in COUNTERS:
        assert sum(value for _, value in samples(page, name)) > 0, name
    for name, (label, expected) in LABELS.items():
        assert values(page, name, label) >= expected, name
    assert busy(page_when(many, lambda page: page != "" and busy(page) == 0)) == 0
    time.sleep(IDLE_S)
    gauges = ("num_requests_running", "num_requests_waiting", "llm_bytes", "llm_start_s")

    def has_gauges(page: str) -> bool:
        return all(values(page, name, LABELS[name][0]) >= LABELS[name][1] for name in gauges)

    # One that is gone would not return: nothing happens.
    idle = page_when(many, has_gauges, OF_ALL_GAUGES)
    assert has_gauges(idle), "gauges stay while nothing happens"


def page_when(many: ServiceClient, check: Callable[[str], bool], together: int = 1) -> str:
    """The first page for which `check` holds, or the last one when none comes.

    Ray's processes report every REPORT_S. together: so many pages in a row count as one.
    """
    pages: list[str] = []

    def shown() -> str:
        return "\n".join(pages[-together:])

    def is_there() -> bool:
        pages.append(many.prometheus())
        return check(shown())

    eventually(is_there, every_s=REPORT_S)
    return shown()


def busy(page: str) -> float:
    """Requests that any stage says it has, running or waiting."""
    names = ("num_requests_running", "num_requests_waiting")
    return sum(value for name in names for _, value in samples(page, name))
