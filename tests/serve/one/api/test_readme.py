"""Every example of the README works, as it stands there: in bash against the shared service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.readme_blocks import Block, blocks
from tests.serve.service_client import ServiceClient, decoded

pytestmark = pytest.mark.serve
README_URL = "http://127.0.0.1:8000"
NOT_HERE = {
    "make demo": "installs; what it then does is tests/serve/one/api/test_demo.py",
    "make test": "is what runs this",
    "pip wheel . --no-deps --wheel-dir dist": "tests/serve/one/life/test_wheel.py, off line",
    'pip install "$(ls dist/timbre-*.whl)[cpu,embedded]" --constraint constraints.txt': "the same",
    "timbre up": "the shared service stands for it; test_wheel.py runs the command",
}
EXAMPLES = [block for block in blocks("README.md") if block.language]


def test_what_is_left_out_is_in_the_readme():
    assert NOT_HERE.keys() <= {
        command for block in EXAMPLES if block.language == "bash" for command in block.commands
    }


@pytest.mark.parametrize("block", EXAMPLES, ids=[f"{b.language}-line-{b.line}" for b in EXAMPLES])
def test_an_example_works(block: Block, client: ServiceClient, tmp_path: Path):
    """Its files are speech; a block that cannot run here has its reason in NOT_HERE."""
    (tmp_path / "pipeline").symlink_to(ROOT / "pipeline")  # as seen from the repository's top
    for command in runnable(block):
        ours = [word.replace(README_URL, client.service.url) for word in command]
        done = subprocess.run(
            ours, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        made = [path for path in tmp_path.iterdir() if path.is_file()]
        assert made, "an example that makes nothing needs a check of its own here"
        for path in made:
            samples, rate_hz = decoded(path.read_bytes())
            assert len(samples) > 0.5 * rate_hz, path.name
            assert abs(samples).max() > 1e-3, path.name
            path.unlink()


def runnable(block: Block) -> list[list[str]]:
    """The command lines that run a block."""
    if block.language == "python":
        return [[sys.executable, "-W", "error", "-c", block.text]]
    assert block.language == "bash", f"line {block.line}: no test runs {block.language}"
    commands = [command for command in block.commands if command not in NOT_HERE]
    if any(command.startswith("curl") for command in commands) and shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    return [["bash", "-euo", "pipefail", "-c", command] for command in commands]


def environment() -> dict[str, str]:
    """This process's own, in which `timbre` is the one under test."""
    here = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
