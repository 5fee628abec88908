"""`timbre verify`: what it says and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deployments.cli import app
from pipeline.audio.encode import encode_file
from tests.marked import answer, clip

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    encode_file(np.concatenate(answer(is_marked=True)), directory / "marked.mp3")
    encode_file(clip(), directory / "plain.flac")
    (directory / "words.txt").write_text("no audio at all")
    return directory


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("marked.mp3", 0, "watermark found"),
        ("plain.flac", 1, "no watermark found"),
        ("words.txt", 2, "timbre:"),
        ("none.wav", 2, "cannot read"),
    ],
)
def test_exit_codes(name: str, code: int, word: str, files: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(files / name)])
    assert done.exit_code == code
    assert word in done.output


def test_the_report_as_json(files: Path) -> None:
    done = CliRunner().invoke(app, ["verify", "--json", str(files / "marked.mp3")])
    report = json.loads(done.stdout)
    assert report["results"][0]["outcome"] == "detected"
    assert report["results"][0]["score"] > 0.9
