"""The report from made-up results: pages, plots, refusals, and two commits beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from load_tests.load.measures import METRICS
from load_tests.load.report.__main__ import main
from load_tests.load.report.comparison import comparison, verdict
from load_tests.load.report.page import page
from load_tests.load.report.prices import price_of, usd_per_spoken_h
from load_tests.load.report.scenarios import scenario_of
from load_tests.load.results import RefusedResultError
from load_tests.load.workload import workloads
from tests.unit.load_tests.load.answered import MISS, failed, ok, refused, result

pytestmark = pytest.mark.unit
FIRST_AUDIO = METRICS[0]
GOODPUT = next(metric for metric in METRICS if metric.name == "goodput")


def results() -> list[dict[str, Any]]:
    return [result(name) for name in workloads()]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for one in results():
        (tmp_path / f"{one['workload']['name']}.json").write_text(json.dumps(one))
    return tmp_path


@pytest.mark.slow  # plots
def test_one_command_writes_page_and_plots(directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs" / "load_report.md"
    out.parent.mkdir()
    assert main([str(directory), "--out", str(out)]) == 0
    text = out.read_text()
    prose = " ".join(text.split())
    plots = sorted((out.parent / "load_report").glob("*.png"))
    assert {path.stem for path in plots} == {
        "latency", "hits", "stages", "underruns", "cost", "memory",
    }  # fmt: skip
    assert all(path.stat().st_size < 100_000 for path in plots)
    assert all(f"](load_report/{path.name})" in text for path in plots)
    for part in (
        "A processor, 2 cores, 8 GiB; commit abc1234",
        "nothing else ran beside",
        "| the predecessor: later, cache miss | 4.82 | 1.66 |",
        "**timbre**: voice A, miss",
        "10,000 calls a day, 70 % hits | 240,000 s → 108,000 s | 55 % |",
        "no meter",
        "`python -m load_tests.load some http://127.0.0.1:8000`",
        "## What the numbers mean",
    ):
        assert part in prose


def test_a_result_without_hardware_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.json").write_text(json.dumps(result(device="")))
    out = tmp_path / "page.md"
    assert main([str(tmp_path / "some.json"), "--out", str(out)]) == 1
    assert "some.json does not say its device" in capsys.readouterr().err
    assert not out.exists()


def test_errors_are_told_by_their_kinds_and_conditions_are_told() -> None:
    answers = [ok(0), ok(1, 1.0), refused(2, 2.0), failed(3, 3.0), failed(4, 4.0, "http 500")]
    one = result(answers=answers, conditions="builds ran beside", dirty=True)
    text = page([one], [], Path("page.md"))
    assert "| hot_voice | failed, cut off | 1 |" in text
    assert "| hot_voice | failed, http 500 | 1 |" in text
    assert "| hot_voice | refused, 503 | 1 | said after 0.01 s" in text
    assert "builds ran beside" in " ".join(text.split())
    assert "abc1234 with uncommitted changes" in text
    assert "**not met**" in text
    assert "never" in text, "the tail of the first audio"


def test_a_page_names_no_machine_path() -> None:
    command = (
        "python -m load_tests.load soak http://127.0.0.1:8000 --json /home/somebody/x/soak.json"
    )
    text = page([result("soak", command=command)], [], Path("page.md"))
    assert "/home" not in text
    assert "--json soak.json" in text


def test_the_soak_tells_what_every_process_takes() -> None:
    text = page([result("soak")], [], Path("page.md"))
    assert "| LLM | 523 | +1.4 % | 3 | 2 | 0 | 40 | 20 |" in text
    assert "| LLM | 5 | not said | 3 | 2 | 0 | 40 | 20 |" in text, "came later"


def test_scenarios_compare_with_having_known_no_voice() -> None:
    told = result(answers=[ok(0, headers=MISS, first_s=0.7), *(ok(i, i) for i in range(1, 5))])
    found = scenario_of(told["told"])
    assert found is not None
    assert found.hit_share == pytest.approx(0.8)
    assert found.with_s == pytest.approx((1.2 + 4 * 0.8) / 5)
    assert found.without_s == pytest.approx(found.with_s + 0.8 * (0.400 - 0.002))
    assert 0 < found.saved_share < 1
    assert scenario_of(result(answers=[ok(0)])["told"]) is None, "no miss to compare with"


def test_prices_are_of_cards_and_of_cores() -> None:
    cores, card, unknown = result(), result(device="NVIDIA L40S"), result(device="NVIDIA H200")
    assert price_of(cores) is not None
    assert price_of(card) is not None
    assert price_of(unknown) is None
    assert usd_per_spoken_h(unknown) is None
    usd_h, audio = price_of(cores), cores["summary"]["audio_s_per_s"]
    assert usd_h is not None
    assert usd_per_spoken_h(cores) == pytest.approx(usd_h.usd_h / audio)


def test_two_commits_are_compared_number_by_number() -> None:
    before = result()
    slower = [ok(i, i, first_s=0.6, headers=MISS if i == 0 else {}) for i in range(20)]
    after = result(answers=slower, commit="def5678")
    text = "\n".join(comparison([before], [after]))
    assert "# abc1234 and def5678" in text
    assert "| first audio, p50 | s | 0.3 | 0.6 | 2.00 | worse |" in text
    assert "| audio | s/s |" in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [(1.0, 1.05, ""), (1.0, 1.2, "worse"), (1.0, 0.8, "better"), (1.0, None, "worse"),
     (None, 1.0, "better"), (0.0, 0.2, "worse"), (None, None, "")],
)  # fmt: skip
def test_better_is_lower_for_waiting_and_higher_for_work(
    old: float | None, new: float | None, said: str
) -> None:
    assert verdict(FIRST_AUDIO, old, new) == said
    if old and new:
        other = {"": "", "worse": "better", "better": "worse"}[said]
        assert verdict(GOODPUT, old, new) == other


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"device": "Another processor"}, "device is"),
        ({"cpus": 4}, "cpus is"),
    ],
)
def test_other_hardware_is_not_compared(after: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedResultError, match=words):
        comparison([result()], [result(**after)])


def test_other_loads_are_not_compared() -> None:
    other = {**result(), "plan": "0123456789abcdef"}
    with pytest.raises(RefusedResultError, match="not of the same calls"):
        comparison([result()], [other])
    with pytest.raises(RefusedResultError, match="no workload in common"):
        comparison([result("soak")], [result("spike")])
    with pytest.raises(RefusedResultError, match="one commit"):
        comparison([result(), result("soak", commit="def5678")], [result()])


def test_the_comparison_is_a_command_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, commit in (("a", "abc1234"), ("b", "def5678")):
        (tmp_path / f"{name}.json").write_text(json.dumps(result(commit=commit)))
    a, b, out = (str(tmp_path / name) for name in ("a.json", "b.json", "page.md"))
    assert main(["--compare", a, b]) == 0
    assert "# abc1234 and def5678" in capsys.readouterr().out
    assert main(["--compare", a, b, "--out", out]) == 0
    assert "hot_voice" in Path(out).read_text()
    assert main(["--compare", a, str(tmp_path / "gone.json")]) == 1
