"""Which numbers of a stream reach Prometheus, for every way a request can end."""

from __future__ import annotations

from collections import defaultdict

import pytest

from deployments.telemetry import metrics as telemetry
from deployments.telemetry.requests import StreamMetrics
from pipeline.continuity import Continuity
from pipeline.contracts import StageTimes

pytestmark = pytest.mark.unit

TIMES = StageTimes(0.1, "l1", 0.2, 0.25, 0.3, 0.5, 2.5, 2.0)
SMOOTH = Continuity(0.5, 0.4, 0.0, 0, 2.0, 3)
DRY = Continuity(0.5, 1.4, 0.7, 1, 2.0, 3)
SILENT = Continuity(None, 0.0, 0.0, 0, 0.0, 0)
Seen = dict[str, list]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Everything that any metric was told, by the metric's name."""
    told: Seen = defaultdict(list)

    class Metric:
        def __init__(self, name: str, *_: object, **__: object) -> None:
            self._name = name

        def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
            told[self._name].append((tags["stage"], value) if tags else value)

        set = observe

        def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
            told[self._name].append(tags["ok"] if tags else value)

    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(telemetry.metrics, kind, Metric)
    return told


def test_a_smooth_reply(seen: Seen) -> None:
    StreamMetrics().finished(TIMES, SMOOTH, "ok")
    assert dict(seen) == {
        "timbre_num_requests_running": [("router", 0)],
        "timbre_num_requests_waiting": [("router", 0)],
        "timbre_stage_s": [("tokenizer", 0.1), ("llm", 0.2), ("vocoder", 0.3)],
        "timbre_e2e_request_latency_s": [2.5],
        "timbre_audio_frames": [48_000],
        "timbre_speech_stream_completed": [1.0],
        "timbre_audio_duration_s": [2.0],
        "timbre_audio_underrun_s": [0.0],
        "timbre_audio_gap_s": [0.4],
        "timbre_audio_continuity_ok": ["true"],
    }


def test_a_reply_that_ran_dry(seen: Seen) -> None:
    StreamMetrics().finished(TIMES, DRY, "ok")
    assert seen["timbre_audio_underrun_s"] == [0.7]
    assert seen["timbre_audio_continuity_ok"] == ["false"]


@pytest.mark.parametrize("outcome", ["error", "cancelled"])
def test_a_reply_cut_off_says_nothing_of_continuity(seen: Seen, outcome: str) -> None:
    StreamMetrics().finished(TIMES, SMOOTH, outcome)
    assert seen["timbre_speech_stream_aborted"] == [1.0]
    assert not seen["timbre_audio_continuity_ok"] + seen["timbre_speech_stream_completed"]


def test_a_request_without_audio(seen: Seen) -> None:
    StreamMetrics().finished(TIMES, SILENT, "refused")
    assert seen["timbre_audio_skipped_requests"] == [1.0]
    assert not seen["timbre_speech_stream_aborted"]


def test_running_requests_are_counted_until_they_end(seen: Seen) -> None:
    metrics = StreamMetrics()
    with metrics.running():
        with pytest.raises(ValueError, match="boom"), metrics.running():
            raise ValueError("boom")
    counts = [count for _, count in seen["timbre_num_requests_running"]]
    assert counts[-1] == 0
    assert max(counts) == 2
    assert seen["timbre_num_requests_waiting"][-1] == ("router", 0)


def test_a_request_waits_until_its_first_audio(seen: Seen) -> None:
    metrics = StreamMetrics()
    with metrics.running() as heard:
        assert seen["timbre_num_requests_waiting"][-1] == ("router", 1)
        heard()
        heard()
        assert seen["timbre_num_requests_waiting"][-1] == ("router", 0)
        assert seen["timbre_num_requests_running"][-1] == ("router", 1)
    assert seen["timbre_num_requests_running"][-1] == ("router", 0)
