"""The commands themselves, on a small service in another thread, and in locust's own process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from load_tests.load.__main__ import main
from load_tests.load.results import load_results
from load_tests.load.workload import workloads
from tests.conftest import ROOT
from tests.unit.load_tests.load.servers import SECOND, audio, served_by_a_thread

pytestmark = [pytest.mark.unit, pytest.mark.slow]


async def reply(request: web.Request) -> web.StreamResponse:
    """A second of audio for every call; counters; no sessions, and nothing of how calls ended."""
    if request.path == "/v1/cache":
        return web.json_response({"saved_s": 1.0, "speech": {"saved_s": 2.0}})
    if request.method == "GET":
        return web.Response(status=404)
    return await audio(request, SECOND)


def test_the_list_has_every_workload(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(workloads())
    assert sum("closed" in line for line in lines) == 2


@pytest.mark.parametrize(
    "options", [("all_miss", "--duration", "1"), ("segments", "--scale", ".05")]
)
def test_a_run_ends_in_a_result(
    tmp_path: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    result, calls = tmp_path / "result.json", tmp_path / "calls.jsonl"
    name, *how = options
    with served_by_a_thread(reply) as url:
        assert main([name, url, *how, "--json", str(result), "--calls", str(calls)]) == 0
    (read,) = load_results([result])
    told = read["summary"]
    assert told["calls"] == told["ok"] == len(calls.read_text().splitlines()) > 0
    assert read["saturation_hz"] > 0
    assert read["workload"]["name"] == name
    assert re.search(r"first audio, p95 +[\d.]+ s", capsys.readouterr().out)


def test_several_loads_run_one_after_another(tmp_path: Path) -> None:
    with served_by_a_thread(reply) as url:
        words = ["switching,all_miss", url, "--duration", "1", "--json", str(tmp_path)]
        assert main([*words, "--saturation", "10"]) == 0
    names = [one["workload"]["name"] for one in load_results([tmp_path])]
    assert names == ["all_miss", "switching"]


def test_a_runs_calls_are_sent_again_when_they_came(tmp_path: Path) -> None:
    recording, result = tmp_path / "calls.jsonl", tmp_path / "result.json"
    recording.write_text("".join(f'{{"at_s": {at_s}}}\n' for at_s in (5.0, 5.2, 5.4)))
    words = ["--arrivals", str(recording), "--json", str(result)]
    with served_by_a_thread(reply) as url:
        assert main(["spike", url, *words]) == 0
    (read,) = load_results([result])
    assert read["summary"]["calls"] == 3
    assert read["phases"][0]["ends_s"] == pytest.approx(1.0)


def test_calls_that_failed_are_said_by_the_exit_code(tmp_path: Path) -> None:
    async def broken(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"code": "stage_failed"}}, status=500)

    result = tmp_path / "result.json"
    with served_by_a_thread(broken) as url:
        words = ["switching", url, "--json", str(result)]
        assert main(words) == 1
        assert main(["spike", url, "--duration", "1"]) == 2, "nothing to take shares of"
    assert json.loads(result.read_text())["summary"]["errors"] == {"http 500 stage_failed": 5}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["soak", "http://192.0.2.1:80"], "not this machine"),
        (["nonsense"], "nonsense is no workload"),
        (["segments", "http://127.0.0.1:9", "--duration", "5"], "--scale"),
        (["replay", "http://127.0.0.1:9", "--duration", "5"], "--scale"),
    ],
)
def test_what_cannot_be_run_is_said(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("users", ["OpenLoop", "ClosedLoop"])
def test_locust_runs_the_same_calls(users: str) -> None:
    many = [] if users == "OpenLoop" else ["--users", "2"]
    command = [
        sys.executable, "-m", "locust", "-f", "load_tests/load/locustfile.py", "--headless",
        "--workload", "cancels", "--scale", "0.005", "--saturation", "10", "--only-summary",
        *many, users,
    ]  # fmt: skip
    with served_by_a_thread(reply) as url:
        done = subprocess.run(
            [*command, "--host", url], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert re.search(r"^openai +first audio +[1-9]", done.stderr, re.MULTILINE), done.stderr
    assert re.search(r"^elevenlabs +whole +[1-9]", done.stderr, re.MULTILINE), done.stderr
    assert "http 404" in done.stderr, "of sessions, which this service has none of"
