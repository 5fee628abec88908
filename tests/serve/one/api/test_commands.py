"""The command line's page: its examples work as they stand there, on the shared service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.examples import SHOWN_URL, TIMEOUT_S, require_speech
from tests.readme_blocks import blocks
from tests.serve.service_client import ServiceClient

pytestmark = pytest.mark.serve


def test_the_examples_of_the_page(client: ServiceClient, tmp_path: Path):
    (examples,) = [one for one in blocks("docs/cli.md") if one.language == "bash"]
    script = examples.text.replace(SHOWN_URL, client.service.url)
    marked = f"timbre verify forgot.flac --json --url {client.service.url}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{script}\n{marked}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"outcome": "detected"' in done.stdout
    assert {file.name for file in tmp_path.iterdir()} == {
        "heard.mp3", "wind.wav", "forgot.flac", "talk.mp3",
    }  # fmt: skip
    for file in tmp_path.iterdir():
        require_speech(file, least_s=0.5)


def environment() -> dict[str, str]:
    """This process's own, in which `timbre` is the one under test."""
    here = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
