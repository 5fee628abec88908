"""One table of metrics: names that dashboards read, each declared once and nowhere else."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from deployments.telemetry import metrics as table
from deployments.telemetry.metrics import HistogramRow, Metric
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

ROWS = [row for row in vars(table).values() if isinstance(row, Metric)]
NAMES = """
admission_capacity admission_queue_age_s admission_refusals admission_reserved answers
audio_continuity_ok audio_duration_s audio_frames audio_gap_s audio_rtf audio_seconds
audio_skipped_requests audio_ttfp_s audio_underrun_s cache_bytes cache_computes cache_requests
cache_saved_encode_seconds cache_tier controller_lag_s corrupted_replies e2e_request_latency_s
encodes gcs_answer_s input_cancel_s input_cancels kept_savings_money kept_savings_s key_refusals
llm_bytes llm_start_s llm_streams
llm_work_s num_requests_running num_requests_waiting process_bytes process_open quota_alone
quota_refusals requests saved_hits saved_seconds sessions
sessions_ended slow_requests speech_cache_bytes speech_cache_computes speech_cache_requests
speech_cache_saved_seconds speech_cache_tier speech_lookups speech_stream_aborted
speech_stream_completed stage_queue_s stage_s tenant_requests transfer_bytes transfer_s
vocoder_cache_bytes vocoder_streams voice_lookups
"""


def test_the_names_are_those_that_dashboards_read() -> None:
    assert sorted(row.name for row in ROWS) == [f"timbre_{name}" for name in NAMES.split()]


def test_a_name_is_written_in_the_table_alone() -> None:
    names = re.compile("|".join(rf"\b{row.name}\b" for row in ROWS))
    written: Counter[str] = Counter()
    for package in ("deployments", "pipeline", "cache_store"):
        for path in (ROOT / package).rglob("*.py"):
            written.update({path.name: len(names.findall(path.read_text()))})
    assert {name: n for name, n in written.items() if n} == {"metrics.py": len(ROWS)}


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_row_says_what_it_counts(row: Metric) -> None:
    assert row.help.endswith(".")
    assert len(set(row.labels)) == len(row.labels)
    if isinstance(row, HistogramRow):
        assert list(row.buckets) == sorted(set(row.buckets))
    opened = row.open()  # type: ignore[attr-defined]
    assert opened.info["name"] == row.name
    assert opened.info["description"] == row.help
    assert set(opened.info["tag_keys"]) >= set(row.labels)
