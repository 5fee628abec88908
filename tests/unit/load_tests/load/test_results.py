"""Results say on what they were made and count every call, or they are not reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from load_tests.load.arrivals import recorded
from load_tests.load.results import RefusedResultError, calls_of, checked, load_results
from tests.unit.load_tests.load.answered import failed, ok, refused, result

pytestmark = pytest.mark.unit


def test_a_result_survives_json_and_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "hot_voice.json"
    path.write_text(json.dumps(result()))
    (read,) = load_results([tmp_path])
    assert read == json.loads(path.read_text())
    assert read["workload"]["name"] == "hot_voice"
    assert read["summary"]["calls"] == 20
    assert read["is_met"]


@pytest.mark.parametrize("fact", ["device", "cpus", "commit", "command", "date"])
def test_a_result_without_its_provenance_is_refused(fact: str) -> None:
    with pytest.raises(RefusedResultError, match=f"does not say its {fact}"):
        checked({**result(), fact: ""}, "some.json")
    without = result()
    del without[fact]
    with pytest.raises(RefusedResultError, match=f"does not say its {fact}"):
        checked(without, "some.json")


def test_errors_that_are_not_counted_are_refused() -> None:
    told = result(answers=[ok(0), failed(1), refused(2)])
    assert checked(told, "some.json") is told
    told["summary"]["errors"] = {}
    with pytest.raises(RefusedResultError, match="1 calls are counted nowhere"):
        checked(told, "some.json")


def test_errors_of_a_phase_that_are_not_counted_are_refused() -> None:
    told = result()
    told["phases"][0]["summary"]["ok"] -= 1
    with pytest.raises(RefusedResultError, match="counted nowhere"):
        checked(told, "some.json")


def test_calls_between_phases_are_refused() -> None:
    told = result()
    told["phases"] = told["phases"] * 2
    with pytest.raises(RefusedResultError, match="calls in phases"):
        checked(told, "some.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"form": 2}', '{"form": 0}'])
def test_what_is_no_result_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(RefusedResultError, match=r"odd\.json"):
        load_results([path])


def test_no_result_is_a_refusal_too(tmp_path: Path) -> None:
    with pytest.raises(RefusedResultError, match="no results"):
        load_results([tmp_path])
    with pytest.raises(RefusedResultError, match=r"gone\.json"):
        load_results([tmp_path / "gone.json"])


def test_time_is_told_in_parts_that_add_up() -> None:
    told = result(answers=[ok(i, 0.1 * i) for i in range(40)])
    assert sum(part["calls"] for part in told["over_time"]) == 40
    ends_s = [part["ends_s"] for part in told["over_time"]]
    assert ends_s == sorted(ends_s)
    saved_s = [part["saved_s"] for part in told["over_time"]]
    assert saved_s == sorted(saved_s)


def test_written_calls_are_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(calls_of([ok(1, 2.5), ok(0, 1.0), refused(2, 4.0)]))
    assert recorded(path) == [0.0, 1.5, 3.0]
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["number"], first["outcome"]) == (0, "ok")
