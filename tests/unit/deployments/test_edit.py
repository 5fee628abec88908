"""`timbre edit` in this process, and the stores that it shares with the service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from pipeline.cli import Exit
from tests.unit.deployments.test_say import config

pytestmark = pytest.mark.unit


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, ...]:
    """Options that keep it in this process, with stores of the test's own."""
    return ("--here", "--config", str(config(tmp_path, str(tmp_path / "voices"))))


def edit(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["edit", *words, "--json"], catch_exceptions=False)
    assert done.exit_code == Exit.DONE, done.output
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_chain_is_found_again_and_gone_on_from(own: tuple[str, ...], tmp_path: Path):
    first, again = (str(tmp_path / name) for name in ("a.wav", "b.wav"))
    chain = ("clone:Hello there.", "denoise", "--voice", "bruno", "--seed", "7", *own)
    made = edit(*chain, "-o", first)
    assert made["edit"].startswith("edit_")
    assert (made["steps"], made["format"]) == ("miss, miss", "wav")
    assert made["bytes"] == Path(first).stat().st_size > 10_000
    other = edit("denoise", "--from", f"{made['edit']}@1", "--seed", "7", "-o", again, *own)
    assert other["edit"] != made["edit"]
    assert other["steps"] == "speech-l3, speech-l3"
    assert Path(again).read_bytes() == Path(first).read_bytes()
    assert CliRunner().invoke(app, ["verify", again]).exit_code == Exit.DONE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("emotion:hapy", "-v", "bruno"), "steps.0.value: emotion has no value 'hapy'; allowed: "),
        (("denoise",), "denoise edits something: "),
        (("denoise", "-v", "bruno", "--format", "pcm"), "pcm is what services send"),
    ],
)
def test_what_cannot_be_is_refused_as_a_service_refuses_it(
    own: tuple[str, ...], tmp_path: Path, words: tuple[str, ...], said: str
):
    done = CliRunner().invoke(app, ["edit", *words, "-o", str(tmp_path / "x.mp3"), *own])
    assert done.exit_code == Exit.WRONG
    assert done.stderr.startswith(f"timbre: {said}")
    assert not (tmp_path / "x.mp3").exists()


def test_a_service_is_not_told_what_this_process_is():
    words = [
        "edit",
        "denoise",
        "-v",
        "bruno",
        "-o",
        "x.mp3",
        "--url",
        "http://h",
        "--model",
        "tiny",
    ]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stderr.count("\n")) == (Exit.WRONG, 1)
    assert "--model is of speech in this process" in done.stderr
