"""The checkpoint commands: what they print and their exit codes."""

from __future__ import annotations

import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app

pytestmark = pytest.mark.unit


def test_the_version_is_the_packages_own():
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.stdout.strip()) == (0, f"timbre {version('timbre')}")


@pytest.mark.slow
def test_init_then_verify_then_damage(tmp_path: Path):
    directory = tmp_path / "tiny"
    wrote = CliRunner().invoke(app, ["checkpoint", "init", "--size", "tiny", str(directory)])
    assert wrote.exit_code == 0, wrote.output
    assert "wrote the tiny checkpoint (seed 0)" in wrote.stdout

    sound = CliRunner().invoke(app, ["checkpoint", "verify", str(directory)])
    assert sound.exit_code == 0
    assert "is sound" in sound.stdout

    weights = directory / "Step-Audio-EditX" / "CosyVoice-300M-25Hz" / "flow.pt"
    weights.write_bytes(weights.read_bytes()[:100])
    broken = CliRunner().invoke(app, ["checkpoint", "verify", str(directory)])
    assert broken.exit_code == 1
    assert "problem: Step-Audio-EditX/CosyVoice-300M-25Hz/flow.pt is cut off" in broken.stdout
    assert broken.stdout.endswith(": 1 problem\n")


def test_errors_are_one_line_on_standard_error(tmp_path: Path):
    (tmp_path / "file").touch()
    refused = CliRunner().invoke(app, ["checkpoint", "init", str(tmp_path)])
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr == f"timbre: {tmp_path} is not empty; nothing was written\n"


def test_download_offline_says_what_to_do(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        command = ["checkpoint", "download", "step-audio-editx", "--endpoint", endpoint]
        failed = CliRunner().invoke(app, [*command, "--dir", str(tmp_path)])
    assert failed.exit_code == 2
    assert "cannot reach 127.0.0.1" in failed.stderr
    assert f"timbre checkpoint verify {tmp_path}" in failed.stderr
    assert failed.stderr.count("\n") == 1
